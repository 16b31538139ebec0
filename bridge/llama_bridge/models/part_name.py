"""The names of a split model's files, as llama.cpp's gguf-split gives them: ``NAME-00002-of-00003.gguf``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["PartName", "read_part_name"]

_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class PartName:
    """The name of one file of a split model.

    Attributes:
        base: what all parts have before their numbers, with the folder if there is one.
        number: which part it is, from 1.
        count: how many there are, at least 2.
        suffix: ``".gguf"``, in the case that it is written in.
    """

    base: str
    number: int
    count: int
    suffix: str = ".gguf"

    def at(self, number: int) -> PartName:
        """The name of another part."""
        return replace(self, number=number)

    def all(self) -> list[str]:
        """The names of all parts, in order."""
        return [str(self.at(number)) for number in range(1, self.count + 1)]

    @property
    def whole(self) -> str:
        """The name without the number."""
        return self.base + self.suffix

    def is_of(self, other: PartName) -> bool:
        """Whether both are parts of one model. Case does not count, as on some disks."""
        mine, its = self.base.lower(), other.base.lower()
        return mine == its and self.count == other.count

    def __str__(self) -> str:
        return f"{self.base}-{self.number:05d}-of-{self.count:05d}{self.suffix}"


def read_part_name(text: str) -> PartName | None:
    """What the name of a file says, with a folder or without; None if it is no part of several."""
    found = _PART.fullmatch(text)
    if found is None:
        return None
    number, count = int(found[2]), int(found[3])
    return PartName(found[1], number, count, found[4]) if 1 <= number <= count > 1 else None
