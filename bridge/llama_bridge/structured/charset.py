"""Sets of Unicode code points, as sorted ranges. Surrogates are in none: they are not characters of a text."""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ANY", "NOTHING", "CharSet", "category", "chars", "span"]

_LAST = sys.maxunicode
_SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True)
class CharSet:
    """Code points in ``ranges``: sorted, apart from each other, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, code: int) -> bool:
        return any(low <= code <= high for low, high in self.ranges)

    def __or__(self, other: CharSet) -> CharSet:
        return _normal(self.ranges + other.ranges)

    def __invert__(self) -> CharSet:
        gaps: list[tuple[int, int]] = []
        start = 0
        for low, high in _merged([*self.ranges, _SURROGATES]):
            if low > start:
                gaps.append((start, low - 1))
            start = high + 1
        if start <= _LAST:
            gaps.append((start, _LAST))
        return CharSet(tuple(gaps))

    def __and__(self, other: CharSet) -> CharSet:
        found: list[tuple[int, int]] = []
        i = j = 0
        while i < len(self.ranges) and j < len(other.ranges):
            low = max(self.ranges[i][0], other.ranges[j][0])
            high = min(self.ranges[i][1], other.ranges[j][1])
            if low <= high:
                found.append((low, high))
            if self.ranges[i][1] < other.ranges[j][1]:
                i += 1
            else:
                j += 1
        return CharSet(tuple(found))

    def __sub__(self, other: CharSet) -> CharSet:
        return self & ~other

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _normal(ranges: Iterable[tuple[int, int]]) -> CharSet:
    parts: list[tuple[int, int]] = []
    for low, high in _merged(ranges):
        if low < _SURROGATES[0]:
            parts.append((low, min(high, _SURROGATES[0] - 1)))
        if high > _SURROGATES[1]:
            parts.append((max(low, _SURROGATES[1] + 1), high))
    return CharSet(tuple(parts))


def chars(text: str) -> CharSet:
    """The set of a text's characters."""
    return _normal((ord(c), ord(c)) for c in text)


def span(low: int, high: int) -> CharSet:
    """Code points from ``low`` to ``high``, both included."""
    return _normal([(low, high)])


NOTHING = CharSet(())
ANY = ~NOTHING


@functools.cache
def _categories() -> dict[str, tuple[tuple[int, int], ...]]:
    """Ranges by general category: one walk through all of Unicode, some 150 ms, for ``\\p{...}`` only."""
    found: dict[str, list[tuple[int, int]]] = {}
    start, current = 0, unicodedata.category("\0")
    for code in range(1, _LAST + 2):
        here = unicodedata.category(chr(code)) if code <= _LAST else ""
        if here != current:
            found.setdefault(current, []).append((start, code - 1))
            start, current = code, here
    return {name: tuple(ranges) for name, ranges in found.items()}


def category(name: str) -> CharSet | None:
    """Characters of a general category (``Lu``) or a group of them (``L``); None if there is none of that name."""
    ranges = [r for key, its in _categories().items() if key.startswith(name) for r in its]
    return _normal(ranges) if ranges and name else None
