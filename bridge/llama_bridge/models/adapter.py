"""LoRA adapters: small files that change what a model computes. Read, described, and identified by their content."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ..checks import check_path, shown
from ..errors import InvalidInput, InvalidModel, PathLike
from .source import ModelFile, ModelSource, open_model

if TYPE_CHECKING:
    from .gguf import GgufHeader

__all__ = [
    "Adapter",
    "AdapterFile",
    "GivenAdapter",
    "alpha_of",
    "check_given",
    "check_unchanged",
    "is_adapter",
    "open_adapter",
    "rank_of",
    "read_adapters",
]

AdapterFile = str | os.PathLike[str] | ModelSource
"""Where an adapter is: a path, or a source."""

GivenAdapter = AdapterFile | tuple[AdapterFile, float]
"""An adapter, or an adapter and its scale, which is 1 otherwise."""

_MOST = 64
_MAX_SCALE = 1e6
_PIECE = 1 << 20
_FLOAT = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter and how strongly it acts. Two with the same content and scale are equal, wherever they are.

    Attributes:
        sha256: digest of the whole file, in hexadecimal.
        scale: what its change of the weights is multiplied with.
        file: the checked file.
    """

    sha256: str
    scale: float
    file: ModelFile = field(compare=False)

    @property
    def name(self) -> str:
        """``general.name``, or the file name without its suffix."""
        return self.file.name

    @property
    def architecture(self) -> str:
        """The kind of network that it is for."""
        return self.file.architecture

    @property
    def rank(self) -> int:
        """The largest rank of its matrices."""
        return rank_of(self.file.header)

    @property
    def alpha(self) -> float:
        """Its change is multiplied with alpha / rank; 0 leaves that out."""
        return alpha_of(self.file.header)

    def __repr__(self) -> str:
        return f"Adapter({self.name!r}, scale={self.scale:g}, sha256={self.sha256[:12]!r}...)"


def is_adapter(header: GgufHeader) -> bool:
    """Whether a GGUF file calls itself an adapter."""
    return header.text("general.type") == "adapter"


def rank_of(header: GgufHeader) -> int:
    """The largest rank of an adapter's matrices; 0 without any."""
    # of B, whose rows have the rank's length, whatever it changes
    return max((t.shape[0] for t in header.tensors if t.name.endswith(".lora_b")), default=0)


def alpha_of(header: GgufHeader) -> float:
    """``adapter.lora.alpha``; 0 if the file does not say."""
    value = header.metadata.get("adapter.lora.alpha")
    return float(value) if isinstance(value, int | float) else 0.0


def open_adapter(given: AdapterFile) -> ModelFile:
    """Find an adapter and read its header.

    Raises:
        InvalidInput, ModelNotFound, InvalidModel: also for a GGUF file that is no LoRA adapter.
    """
    file = open_model(given)
    header = file.header
    if not is_adapter(header):
        kind = header.text("general.type")
        what = "a model" if kind in ("", "model") else f"a GGUF file of the type {shown(kind)}"
        raise InvalidModel(given_path(file), f"this is {what}, not a LoRA adapter", "gguf")
    if file.parts:
        raise InvalidModel(
            given_path(file), f"an adapter in {len(file.parts)} files: join them with gguf-split"
        )
    if (kind := header.text("adapter.type")) != "lora":
        raise InvalidModel(
            given_path(file), f"an adapter of the type {kind!r}: only 'lora' can be used"
        )
    return file


def check_given(given: Iterable[GivenAdapter]) -> list[tuple[AdapterFile, float]]:
    """Each adapter with its scale. Opens nothing.

    Raises:
        InvalidInput: the form is wrong, or a scale is not a number that llama.cpp can use.
    """
    rule = "give a list of paths, or of pairs like ('adapter.gguf', 0.5)"
    if isinstance(given, str | bytes | os.PathLike | ModelSource) or not isinstance(
        given, Sequence
    ):
        raise InvalidInput(f"adapters={shown(given)}: {rule}")
    if len(given) > _MOST:
        raise InvalidInput(f"adapters has {len(given)} of them: at most {_MOST} can be in force")
    found: list[tuple[AdapterFile, float]] = []
    for i, one in enumerate(given):
        file, scale = _pair(one)
        if not isinstance(file, str | os.PathLike | ModelSource):
            raise InvalidInput(f"adapters[{i}]={shown(one)}: {rule}")
        if not isinstance(file, ModelSource) or isinstance(file, os.PathLike):
            check_path(f"adapters[{i}]", cast("PathLike", file))
        found.append((cast("AdapterFile", file), _check_scale(i, scale)))
    return found


def _pair(given: object) -> tuple[object, object]:
    several: object = given
    if isinstance(several, tuple | list):
        pair = cast("Sequence[object]", several)
        if len(pair) == 2:
            return pair[0], pair[1]
    return given, 1.0


def _check_scale(i: int, scale: object) -> float:
    if (
        isinstance(scale, bool)
        or not isinstance(scale, int | float)
        or not -_MAX_SCALE <= scale <= _MAX_SCALE
    ):
        raise InvalidInput(
            f"adapters[{i}] has the scale {shown(scale)}: give a number from {-_MAX_SCALE:g} to {_MAX_SCALE:g}"
        )
    return float(scale)


def read_adapters(given: Sequence[tuple[AdapterFile, float]]) -> tuple[Adapter, ...]:
    """Open adapters and read them whole, for their digests.

    Each content comes once, with the sum of its scales; those that do nothing, with the scale 0, are left out.

    Raises:
        InvalidInput, ModelNotFound, InvalidModel.
    """
    found: dict[str, tuple[ModelFile, float]] = {}
    for path, scale in given:
        file = open_adapter(path)
        digest = _sha256(file)
        before = found.get(digest)
        found[digest] = (file, scale) if before is None else (before[0], before[1] + scale)
    return tuple(
        Adapter(digest, as_float32(scale), file)
        for digest, (file, scale) in sorted(found.items(), key=lambda item: item[0])
        if as_float32(scale) != 0
    )


def check_unchanged(adapter: Adapter) -> None:
    """Refuse an adapter whose file is no longer the one that was checked. Engines call it when they have read it.

    Raises:
        InvalidModel.
    """
    try:
        if adapter.file.is_unchanged:
            return
        why = "another file is there now"
    except OSError as error:
        why = error.strerror or str(error)
    raise InvalidModel(
        given_path(adapter.file), f"changed since it was checked ({why}): give it again"
    )


def as_float32(value: float) -> float:
    """The number that llama.cpp makes of it, in the fewest digits that name it."""
    (single,) = _FLOAT.unpack(_FLOAT.pack(value))
    shorter = (float(f"{single:.{digits}g}") for digits in range(6, 10))
    return next(short for short in shorter if _FLOAT.pack(short) == _FLOAT.pack(single))


def given_path(file: ModelFile) -> str:
    """The file's name for errors."""
    return os.fspath(file.path)


def _sha256(file: ModelFile) -> str:
    import hashlib  # 5 ms with OpenSSL: only adapters need it

    digest = hashlib.sha256()
    size = 0
    try:
        with file.open() as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise InvalidModel(
            given_path(file), f"cannot be read: {error.strerror or error}"
        ) from error
    if size != file.header.file_size:
        raise InvalidModel(given_path(file), "changed while it was read: give it again")
    return digest.hexdigest()
