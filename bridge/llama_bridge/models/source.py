"""Model files: found by path or name, checked, and identified by their content."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast, runtime_checkable

from ..checks import check_path
from ..errors import InvalidModel, ModelNotFound

if TYPE_CHECKING:
    from .gguf import GgufHeader

__all__ = ["DEMO", "ModelFile", "ModelSource", "open_model"]

DEMO = "demo"
"""Name of the small chat model in the package."""


@runtime_checkable
class ModelSource(Protocol):
    """A GGUF file that is not on the disk, such as one dropped on a page or on a server.

    Attributes:
        name: the name to show.
    """

    name: str

    def open(self) -> BinaryIO:
        """Open it at the beginning: ``seek``, ``tell``, ``readinto``, ``read``, ``close``; unbuffered is fine."""
        ...


@dataclass(frozen=True)
class ModelFile:
    """A checked GGUF file and what it says about its model. No engine is needed.

    Attributes:
        path: where it is; for a source, only its name.
        header: its metadata and tensor table.
        identity: shows whether the file at the path is still the one that was checked.
        source: what it is read from, if not a path.
    """

    path: Path
    header: GgufHeader = field(repr=False)
    identity: tuple[int, ...] = field(repr=False, default=())
    source: ModelSource | None = None

    def open(self) -> BinaryIO:
        """Open the file, unbuffered."""
        if self.source is not None:
            return self.source.open()
        return cast("BinaryIO", self.path.open("rb", buffering=0))

    @property
    def name(self) -> str:
        """``general.name``, or the file name without its suffix."""
        return self.header.text("general.name") or self.path.stem

    @property
    def architecture(self) -> str:
        """The kind of network, in llama.cpp's words: ``"llama"``, ``"qwen2"``."""
        return self.header.architecture

    @property
    def n_parameters(self) -> int:
        """Number of weights in all tensors; 0 if the file is only a vocabulary."""
        return self.header.n_parameters

    @property
    def quantisation(self) -> str | None:
        """The tensor type that takes the most bytes, such as ``"Q4_K"``; None without weights.

        This is what the file contains, not what its name or metadata claim.
        """
        return next(iter(self.header.bytes_by_type), None)

    @cached_property
    def metadata(self) -> Mapping[str, int | float | bool | str]:
        """The numbers, booleans and texts of the GGUF metadata by key; read-only.

        Arrays, including the vocabulary, stay in the file: see ``header``.
        """
        return MappingProxyType(
            {
                key: value
                for key, value in self.header.metadata.items()
                if isinstance(value, int | float | bool | str)
            }
        )

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja chat template, or None."""
        return self.header.text("tokenizer.chat_template") or None

    @property
    def n_ctx_train(self) -> int:
        """The context length that the model was trained with; 0 if the file does not say."""
        return self.header.number(f"{self.header.architecture}.context_length")

    @property
    def is_unchanged(self) -> bool:
        """Whether the file at the path is still the one that was checked; of a source that is not known.

        Raises:
            OSError: it is gone.
        """
        return self.source is not None or _identity(self.path.stat()) == self.identity

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What identifies this model in a session file, field by field, as hex SHA-256.

        It depends on content, never on path or time: metadata, vocabulary, chat template, tensor table (names, shapes,
        quantisation) and bytes sampled from every tensor, so that other weights of the same shape differ.
        """
        from .fingerprint import fingerprint  # 1 ms, with the header: see open_model()

        try:
            if self.is_unchanged:
                return fingerprint(self.open, self.header)
            why = "another file"
        except OSError as error:
            why = error.strerror or str(error)
        raise InvalidModel(
            self.path,
            f"changed on the disk since it was loaded ({why}), so sessions can no longer be matched to it: "
            "load the model again",
        )


def open_model(model: str | os.PathLike[str] | ModelSource) -> ModelFile:
    """Find and check a model: a path, ``"demo"`` for the packaged model, or a source.

    Raises:
        InvalidInput: not a path.
        ModelNotFound: no file there, or a directory.
        InvalidModel: not a usable GGUF file, or not readable.
    """
    if isinstance(model, ModelSource) and not isinstance(model, os.PathLike):  # a Path has open()
        return _open_source(model)
    path = _demo_path() if isinstance(model, str) and model == DEMO else check_path("model", model)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidModel(model, _about_directory(path), "directory")
        if not stat.S_ISREG(status.st_mode):  # before opening: a pipe would block for ever
            raise InvalidModel(model, "not a regular file")
        from .gguf import read_gguf  # 6 ms: only loading a model needs it

        with path.open("rb") as file:
            header = read_gguf(file, os.fspath(model))
            identity = _identity(os.fstat(file.fileno()))
    except FileNotFoundError as error:
        raise ModelNotFound(model, f"no such file: {_way_to_a_file(model, path)}") from error
    except OSError as error:
        raise InvalidModel(model, f"cannot be read: {error.strerror or error}") from error
    return ModelFile(path, header, identity)


def _about_directory(path: Path) -> str:
    found = sorted(p.name for p in path.glob("*.gguf"))[:3]
    if found:
        return f"this is a directory: give the path of a GGUF file in it ({', '.join(found)})"
    return "this is a directory without a GGUF file: give the path of a GGUF file"


def _way_to_a_file(model: str | os.PathLike[str], path: Path) -> str:
    if path.stem.lower() == DEMO:
        return f"did you mean the packaged model, {DEMO!r}?"
    text = os.fspath(model)
    if "://" in text:
        return "download the file from this address and give its path"
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) and not text.lower().endswith(".gguf"):
        return f"give the path of a GGUF file; a model on the hub is called hf:{text}"
    return "give the path of a GGUF file"


def _open_source(source: ModelSource) -> ModelFile:
    from .gguf import read_gguf  # as in open_model()

    try:
        with source.open() as file:
            return ModelFile(Path(source.name), read_gguf(file, source.name), source=source)
    except OSError as error:
        raise InvalidModel(source.name, f"cannot be read: {error.strerror or error}") from error


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _demo_path() -> Path:
    return Path(__file__).parents[1] / "data" / "demo.gguf"
