"""Compares two folders of results, bit by bit."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of a comparison.

    Attributes:
        compared: names of all results.
        different: what differs, for each result that is not the same.
    """

    compared: tuple[str, ...]
    different: dict[str, str]

    def __str__(self) -> str:
        if not self.different:
            return f"{len(self.compared)} results, the same to the last bit"
        lines = [f"  {name}: {what}" for name, what in self.different.items()]
        return "\n".join([f"{len(lines)} of {len(self.compared)} results differ:", *lines])


def compare(here: Path, there: Path) -> Comparison:
    """Compare the files of two folders.

    Numbers (``.f32``) are the same if their bits are, or if both are NaN, because WebAssembly does not say which NaN.
    Other files are the same if their bytes are.

    Raises:
        ValueError: there is nothing to compare, which would prove nothing.
    """
    names = sorted({path.name for folder in (here, there) for path in folder.iterdir()})
    if not names:
        raise ValueError(f"no results in {here} and {there}")
    different: dict[str, str] = {}
    for name in names:
        missing = [folder for folder in (here, there) if not (folder / name).exists()]
        if missing:
            different[name] = f"not in {missing[0]}"
        elif what := _differ(name, *((folder / name).read_bytes() for folder in (here, there))):
            different[name] = what
    return Comparison(tuple(names), different)


def _differ(name: str, a: bytes, b: bytes) -> str | None:
    if a == b:
        return None
    if not name.endswith(".f32"):
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        return f"differs from byte {min(len(a), len(b)) if at is None else at} on"
    if len(a) != len(b):
        return f"{len(a) // 4} numbers against {len(b) // 4}"
    pairs = zip(_bits(a), _bits(b), strict=True)
    apart = [
        (_number(x), _number(y))
        for x, y in pairs
        if x != y and not (math.isnan(_number(x)) and math.isnan(_number(y)))
    ]
    if not apart:
        return None
    return f"{len(apart)} of {len(a) // 4} numbers, the first {apart[0][0]!r} and {apart[0][1]!r}"


def _bits(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}I", data)


def _number(bits: int) -> float:
    (number,) = struct.unpack("<f", struct.pack("<I", bits))
    return float(number)
