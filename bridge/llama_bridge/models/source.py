"""Model files: found by path or name, checked, and identified by their content."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast, runtime_checkable

from ..checks import check_path
from ..errors import InvalidModel, ModelNotFound
from .part_name import PartName, read_part_name

if TYPE_CHECKING:
    from .gguf import GgufHeader

__all__ = ["DEMO", "ModelFile", "ModelSource", "SplitSource", "open_model"]

_MAX_LINKS = 40  # as on Linux
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


@runtime_checkable
class SplitSource(ModelSource, Protocol):
    """A source that may be one of a split model's files, and knows the others."""

    def beside(self, number: int) -> ModelSource:
        """The part with this number, from 1.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...


@dataclass(frozen=True)
class ModelFile:
    """A checked GGUF file, or the files of a split model, and what it says about its model. No engine is needed.

    Attributes:
        path: where it is; for a source, only its name. Of a split model the first part.
        header: its metadata and tensor table. Of a split model see :func:`~.split.joined`.
        identity: shows whether the file at the path is still the one that was checked.
        source: what it is read from, if not a path.
        parts: the files of a split model, in order, each with its own header; empty for a model in one file.
    """

    path: Path
    header: GgufHeader = field(repr=False)
    identity: tuple[int, ...] = field(repr=False, default=())
    source: ModelSource | None = None
    parts: tuple[ModelFile, ...] = field(repr=False, default=())

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The parts, or the one file."""
        return self.parts or (self,)

    def open(self) -> BinaryIO:
        """Open the file, unbuffered; of a split model the first part, which has all metadata."""
        if self.source is not None:
            return self.source.open()
        return cast("BinaryIO", self.path.open("rb", buffering=0))

    @property
    def name(self) -> str:
        """``general.name``, or the file name without its suffix, and without the number of a part."""
        part = read_part_name(self.path.name) if self.parts else None
        return self.header.text("general.name") or (part.base if part else self.path.stem)

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
        """Whether the file at the path, or each part, is still the one that was checked; of a source that is not known.

        Raises:
            OSError: it is gone.
        """
        if self.parts:
            return all(part.is_unchanged for part in self.parts)
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
                return fingerprint([(part.open, part.header) for part in self.files])
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

    Of a split model any part will do, and the name without the numbers if there is no such file.

    Raises:
        InvalidInput: not a path.
        ModelNotFound: no file there, or a part is missing.
        InvalidModel: not a usable GGUF file, a directory, not readable, or a part of another model.
    """
    if isinstance(model, ModelSource) and not isinstance(model, os.PathLike):  # a Path has open()
        return _whole(model.name, _open_source(model))
    path = _demo_path() if isinstance(model, str) and model == DEMO else check_path("model", model)
    given = os.fspath(cast("str | os.PathLike[str]", model))
    if not os.path.lexists(path):
        from .split import find_beside  # 1 ms, only for what is not there

        path = find_beside(given, path)
    return _whole(given, _open_path(given, path))


def _open_path(given: str, path: Path) -> ModelFile:
    """Check one file."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidModel(given, _about_directory(path), "directory")
        if not stat.S_ISREG(status.st_mode):  # before opening: a pipe would block for ever
            raise InvalidModel(given, "not a regular file")
        from .gguf import read_gguf  # 6 ms: only loading a model needs it

        with path.open("rb") as file:
            header = read_gguf(file, given)
            identity = _identity(os.fstat(file.fileno()))
    except FileNotFoundError as error:
        raise ModelNotFound(given, f"no such file: {_way_to_a_file(given, path)}") from error
    except OSError as error:
        raise InvalidModel(given, f"cannot be read: {error.strerror or error}") from error
    return ModelFile(path, header, identity)


def _whole(given: str, file: ModelFile) -> ModelFile:
    """The model that a file is, or is a part of."""
    from .split import check_called, is_part, joined, missing, said_part  # 1 ms, with the header

    if is_part(file.header) and file.source is None and read_part_name(file.path.name) is None:
        file = replace(file, path=_link_to_part(file.path))
    called = None
    if isinstance(file.source, SplitSource) and read_part_name(file.path.name) is None:
        called = said_part(file.path.stem, file.header)  # it finds the others without names
    called = called or check_called(given, file.path.name, file.header)
    if called is None:
        return file
    parts: list[ModelFile] = []
    for number in range(1, called.count + 1):
        part = called.at(number)
        try:
            parts.append(file if number == called.number else _beside(file, part))
        except ModelNotFound as error:
            raise missing(given, part, [file.path.name]) from error
        except InvalidModel as error:
            why = f"part {number} of {called.count} cannot be used: {part}: {error.reason}"
            raise InvalidModel(given, why, error.found) from error
    header = joined(given, called, [part.header for part in parts])
    return replace(parts[0], header=header, parts=tuple(parts))


def _link_to_part(path: Path) -> Path:
    """Where a link leads, but no farther than to the name of a part: in the hub's cache that is a link, too."""
    at = path.absolute()
    for _ in range(_MAX_LINKS):
        if read_part_name(at.name) is not None or not at.is_symlink():
            return at
        at = at.parent / at.readlink()
    return path


def _beside(file: ModelFile, part: PartName) -> ModelFile:
    """Check another part."""
    if file.source is None:
        from .split import part_beside  # as in _whole()

        path = part_beside(file.path.parent, part)
        return _open_path(os.fspath(path), path)
    if not isinstance(file.source, SplitSource):
        raise InvalidModel(file.source.name, "nothing says where it is: give all parts")
    try:
        return _open_source(file.source.beside(part.number))
    except FileNotFoundError as error:
        raise ModelNotFound(str(part), "no such file") from error


def _about_directory(path: Path) -> str:
    found = sorted(p.name for p in path.glob("*.gguf"))[:3]
    if found:
        return f"this is a directory: give the path of a GGUF file in it ({', '.join(found)})"
    return "this is a directory without a GGUF file: give the path of a GGUF file"


def _way_to_a_file(text: str, path: Path) -> str:
    if path.stem.lower() == DEMO:
        return f"did you mean the packaged model, {DEMO!r}?"
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
