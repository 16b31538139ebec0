"""A model in several files: finds the parts on the disk, checks that they belong together, and joins their headers.

The first part has the metadata. Each says which one it is (``split.no``, from 0), how many there are (``split.count``)
and how many tensors they have together (``split.tensors.count``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InvalidModel, ModelNotFound
from .gguf import GgufHeader
from .part_name import PartName, read_part_name

__all__ = [
    "check_called",
    "find_beside",
    "is_part",
    "joined",
    "missing",
    "part_beside",
    "said_part",
]

_SHOWN = 5
_KINDS = {
    "split.no": (2, "an unsigned number of 16 bits"),
    "split.count": (2, "an unsigned number of 16 bits"),
    "split.tensors.count": (5, "a number of 32 bits"),
}
"""The types of GGUF in which llama.cpp reads them."""


def is_part(header: GgufHeader) -> bool:
    """Whether a file says that it is one of several."""
    return header.number("split.count", 1) > 1


def check_called(given: str, name: str, header: GgufHeader) -> PartName | None:
    """The name of a part, after comparing it with what the file says; None for a whole model.

    Raises:
        InvalidModel: they differ, so that the other parts cannot be found.
    """
    called = read_part_name(name)
    says = _says(header)
    if not is_part(header):
        if called is None or called.number == 1:
            return None
        raise InvalidModel(
            given,
            f"it is called part {called.number} of {called.count} of a split model, but it is {says}: fetch the part "
            "again, or give the file another name",
            "split",
        )
    if called is None:
        raise InvalidModel(
            given,
            f"it is {says} of a split model, but is not called so: give all parts the names that gguf-split gives, "
            "NAME-00001-of-00002.gguf",
            "split",
        )
    _check_says(given, called, header)
    return called


def said_part(base: str, header: GgufHeader) -> PartName | None:
    """What a file would be called by what it says; None for a whole model, or if it says nothing that can be."""
    number, count = header.number("split.no", -1) + 1, header.number("split.count", 1)
    return PartName(base, number, count) if 1 <= number <= count > 1 else None


def joined(given: str, called: PartName, headers: Sequence[GgufHeader]) -> GgufHeader:
    """The header of a whole model: the metadata of the first part, the tensors of all.

    The offset of a tensor counts from the start of its own part's data, so only the parts' own headers can be used to
    find it.

    Args:
        given: the model's name for errors.
        called: the name of any part.
        headers: of all parts, in order.

    Raises:
        InvalidModel: a part belongs to another model, or they have not all tensors; names the part.
    """
    first, total = headers[0], headers[0].number("split.tensors.count", -1)
    where: dict[str, PartName] = {}
    for number, header in enumerate(headers, 1):
        part = called.at(number)
        _check_says(given, part, header)
        if (its := header.number("split.tensors.count", -1)) != total:
            raise _foreign(given, part, f"its model has {its:,} tensors, not {total:,}")
        for tensor in header.tensors:
            if (other := where.setdefault(tensor.name, part)) is not part:
                raise _foreign(given, part, f"it has the tensor {tensor.name}, as has {other}")
    if len(where) != total:
        raise InvalidModel(
            given,
            f"its {len(headers)} parts have {len(where):,} tensors, but it should have {total:,}: they are parts of "
            "different models, or damaged; fetch them again",
            "split",
        )
    return replace(
        first,
        tensors=tuple(tensor for header in headers for tensor in header.tensors),
        file_size=sum(header.file_size for header in headers),
    )


def _check_says(given: str, part: PartName, header: GgufHeader) -> None:
    for key, (kind, words) in _KINDS.items():
        if (
            is_part(header) and header.kinds.get(key, kind) != kind
        ):  # llama.cpp ends the process for split.no
            raise _foreign(given, part, f"its {key} is not {words}")
    if (header.number("split.no", -1), header.number("split.count", 1)) != (
        part.number - 1,
        part.count,
    ):
        raise _foreign(given, part, f"it is {_says(header)}")


def _says(header: GgufHeader) -> str:
    if not is_part(header):
        return "a whole model"
    return f"part {header.number('split.no', -1) + 1} of {header.number('split.count')}"


def _foreign(given: str, part: PartName, why: str) -> InvalidModel:
    return InvalidModel(
        given,
        f"{Path(str(part)).name} is not part {part.number} of {part.count} of this model: {why}. Fetch it again",
        "split",
    )


def find_beside(given: str, path: Path) -> Path:
    """What a path means that does not exist: a part, for the name without the numbers; else the path.

    Raises:
        ModelNotFound: it is a part, and others are there.
        InvalidModel: there are several models of this name.
    """
    part = read_part_name(path.name)
    stem = path.name[: -len(".gguf")] if path.name.lower().endswith(".gguf") else path.name
    names = {name: read_part_name(name) for name in _names_in(path.parent)}
    parts = {name: its for name, its in names.items() if its is not None}
    if part is not None:
        there = {name: its for name, its in parts.items() if its.is_of(part)}
        same = [name for name, its in there.items() if its.number == part.number]
        if there and not same:
            raise missing(given, part, list(there))
        return path.parent / same[0] if same else path
    found = {name: its for name, its in parts.items() if its.base == stem}
    if len(counts := sorted({its.count for its in found.values()})) > 1:
        raise InvalidModel(
            given,
            f"there are split models of this name in {', '.join(map(str, counts))} files: give the path of one part",
            "split",
        )
    return path.parent / min(found, key=lambda name: found[name].number) if found else path


def part_beside(folder: Path, part: PartName) -> Path:
    """The path of a part in a folder, there or not; found in another case, too."""
    path = folder / str(part)
    if os.path.lexists(path):
        return path
    same = [name for name in _names_in(folder) if name.lower() == str(part).lower()]
    return folder / same[0] if same else path


def missing(given: str, part: PartName, there: Sequence[str]) -> ModelNotFound:
    """The error for a part that is not there."""
    shown = ", ".join(sorted(there)[:_SHOWN]) + ", ..." * (len(there) > _SHOWN)
    return ModelNotFound(
        given,
        f"part {part.number} of {part.count} is missing: there is no {part}, but {shown}; fetch it, too",
        sorted(there),
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
