"""Finds where a conversation has said before what it says now: what followed there is a guess of what follows here."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = ["LONG", "SHORT", "Lookup"]

SHORT = 3
"""Tokens that must agree for a match."""
_BITS = 21
"""Of a token in a key; all vocabularies are smaller."""
_MASK = (1 << SHORT * _BITS) - 1
_CANDIDATES = 8
"""Places that are compared, the latest first."""
LONG = 16
"""A match of this many tokens is long enough."""


class Lookup:
    """An index of a conversation's tokens: 150 bytes and half a microsecond for each."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.tokens: list[int] = []
        self._before = array(
            "i"
        )  # for each place, the last one before it that follows the same tokens; 0 if none
        self._latest: dict[int, int] = {}  # by the last tokens: the place that follows them
        self._key = 0  # of the last tokens
        self._whole = True  # whether no interrupt came in the middle of a change

    def follow(self, tokens: Sequence[int]) -> None:
        """Make these the tokens of the conversation. What they share with those before is not read again."""
        if not self._whole:
            self._clear()
        own = self.tokens
        n = min(len(own), len(tokens))
        if own[:n] != tokens[:n]:
            n = next(i for i, (a, b) in enumerate(zip(own, tokens, strict=False)) if a != b)
        self._cut(n)
        self.add(islice(tokens, n, None))

    def add(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        self._whole = False
        own, before, latest, key = self.tokens, self._before, self._latest, self._key
        place = len(own)
        for token in tokens:
            key = (key << _BITS ^ token) & _MASK
            place += 1
            own.append(token)
            before.append(latest.get(key, 0))
            if place >= SHORT:
                latest[key] = place
        self._key = key
        self._whole = True

    def _cut(self, length: int) -> None:
        self._whole = False
        own, before, latest = self.tokens, self._before, self._latest
        while len(own) > length:
            place = len(own)
            if place >= SHORT:
                key = self._key_at(place)
                if before[-1]:
                    latest[key] = before[-1]
                else:
                    del latest[key]
            own.pop()
            before.pop()
        self._key = self._key_at(length)
        self._whole = True

    def _key_at(self, place: int) -> int:
        key = 0
        for token in self.tokens[max(0, place - SHORT) : place]:
            key = (key << _BITS ^ token) & _MASK
        return key

    def find(self) -> tuple[int, int] | None:
        """Where the conversation's last tokens were before, and how many agree; None if nowhere."""
        own, before = self.tokens, self._before
        end = len(own)
        place = before[-1] if end > SHORT else 0
        best = longest = 0
        for _ in range(_CANDIDATES):
            if not place:
                break
            n = SHORT
            while n < LONG and n < place and own[place - 1 - n] == own[end - 1 - n]:
                n += 1
            if n > longest:
                best, longest = place, n
                if n == LONG:
                    break
            place = before[place - 1]
        return (best, longest) if best else None

    def guess(self, place: int, n: int) -> list[int]:
        """What followed from a place on, so many tokens; what repeats itself goes on doing so."""
        own = self.tokens
        found = own[place : place + n]
        period = len(found)
        while len(found) < n:
            found.append(found[-period])
        return found
