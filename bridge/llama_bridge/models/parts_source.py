"""A split model whose files are not on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from ..checks import shown
from ..errors import InvalidInput
from .part_name import PartName, read_part_name
from .source import ModelSource

__all__ = ["PartsSource"]


class PartsSource:
    """The parts of a split model, such as files dropped on a page, in any order. ``LlamaBridge(PartsSource(files))``.

    Args:
        parts: all of them. Their names say which is which: ``NAME-00001-of-00003.gguf``.

    Raises:
        InvalidInput: one is not a part of the same model, or is there twice; names it.
    """

    def __init__(self, parts: Sequence[ModelSource]) -> None:
        self._parts: dict[int, ModelSource] = {}
        of: PartName | None = None
        for part in parts:
            called = read_part_name(part.name)
            if called is None:
                raise InvalidInput(
                    f"{shown(part.name)} is not the name of a part, such as NAME-00001-of-00003.gguf"
                )
            of = of or called
            if not called.is_of(of):
                raise InvalidInput(f"{part.name} and {of} are parts of different models")
            if self._parts.setdefault(called.number, part) is not part:
                raise InvalidInput(f"{part.name} is given twice")
        if of is None:
            raise InvalidInput("no parts: give all files of a split model")
        self._first = self._parts[min(self._parts)]
        self.name = self._first.name

    def open(self) -> BinaryIO:
        """Open the first part."""
        return self._first.open()

    def beside(self, number: int) -> ModelSource:
        """See :class:`SplitSource`."""
        if number not in self._parts:
            raise FileNotFoundError(number)
        return self._parts[number]
