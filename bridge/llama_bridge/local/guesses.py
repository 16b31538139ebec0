"""Decides how many tokens to guess: as many as pay, by how often guesses came true and how long it took to check them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .lookup import LONG, Lookup

__all__ = ["Guesses"]

_ROWS = (2, 4, 8, 16)
"""Tokens of a step that checks guesses: one is certain, the others are guesses. Kernels on CPUs take fours at once."""
_PRIOR = 0.25
"""What a further row is taken to cost before that was measured, in steps of one row."""
_LESS = 0.8
"""A row costs less than that in a larger step, by so much."""
_WORTH = 1.05
"""How much faster than single tokens a step must promise to be."""
_HOPELESS = 0.02
"""With less chance that all guesses come, more are not looked at."""
_MEMORY = 0.97
_SMOOTH = 0.125
_HICCUP = 3.0
"""A step that took so many times longer than usual is counted as this."""
_START, _INCOME, _MOST = 1.75, 0.015, 8.0
"""What may be lost: at first, more for each token, and at most. In steps of one row."""
_FORGIVE = 0.998


class Guesses:
    """Guesses what a conversation says next, and learns from what it says.

    Args:
        most: the most guesses that the engine checks at once.
        ends: tokens that end an answer, which are never guessed.
    """

    def __init__(self, most: int, ends: Collection[int] = ()) -> None:
        self._most = min(most, _ROWS[-1] - 1)
        self._ends = ends
        self._lookup = Lookup()
        self._expected: list[int] = []  # what is taken to come next
        self._at = 0  # how much of that came true
        self._agree = 0  # how many tokens before it agreed
        # By how many tokens agreed: how often the next one was right, and how often it was looked at.
        self._right = [0.5 * n / LONG + 0.25 for n in range(LONG + 1)]
        self._tried = [1.0] * (LONG + 1)
        self._single = 0.0  # seconds of a step without guesses
        self._seconds: dict[int, float] = {}  # of steps with so many rows
        self._may_lose = _START

    def follow(self, conversation: Sequence[int]) -> None:
        """Begin where the conversation is now."""
        self._lookup.follow(conversation)
        self._expected = []

    def said(self, token: int) -> None:
        """This is the next token."""
        expected, at = self._expected, self._at
        if at < len(expected):
            right = expected[at] == token
            self._note(min(self._agree + at, LONG), right)
            if right:
                self._at = at + 1
            else:
                self._expected = []
        self._lookup.add((token,))
        self._may_lose = min(_MOST, self._may_lose + _INCOME)

    def _note(self, agreed: int, right: bool) -> None:
        self._right[agreed] = self._right[agreed] * _MEMORY + right
        self._tried[agreed] = self._tried[agreed] * _MEMORY + 1

    def next(self, most: int) -> list[int]:
        """What to guess now, at most so many tokens; nothing if that would not pay."""
        found = self._lookup.find()
        if found is None:
            self._expected = []
            return []
        place, self._agree = found
        self._at = 0
        n = self._how_many(min(most, self._most))
        # One token at least, to see whether it comes.
        expected = self._expected = self._lookup.guess(place, n or 1)
        end = next((i for i, token in enumerate(expected) if token in self._ends), n)
        return expected[: min(n, end)]

    def _how_many(self, most: int) -> int:
        single = self._single
        if not single or most <= 0:
            return 0
        best, n_best = _WORTH, 0
        promised = chance = 1.0
        agree, n = self._agree, 0
        for rows in _ROWS:
            while n < min(rows - 1, most):
                at = min(agree + n, LONG)
                chance *= self._right[at] / self._tried[at]
                promised += chance
                n += 1
            cost = self._cost(rows)
            if cost - 1 <= self._may_lose and promised > best * cost:
                best, n_best = promised / cost, n
            if n == most or chance < _HOPELESS:
                break
        if not n_best and chance > 0.5:
            for rows in self._seconds:
                self._seconds[rows] *= _FORGIVE
        return n_best

    def _cost(self, rows: int) -> float:
        """What a step of so many rows costs, in steps of one."""
        if rows in self._seconds:
            return self._seconds[rows] / self._single
        for known in reversed(_ROWS):
            if known in self._seconds and known < rows:
                each = (self._seconds[known] / self._single - 1) / (known - 1)
                return 1 + max(0.0, _LESS * each) * (rows - 1)
        return 1 + _PRIOR * (rows - 1)

    def took_single(self, seconds: float) -> None:
        """A step without guesses took so long."""
        usual = self._single or seconds
        self._single += (
            (min(seconds, _HICCUP * usual) - usual) * _SMOOTH if self._single else seconds
        )

    def took(self, n_guesses: int, n_said: int, seconds: float) -> None:
        """A step that checked guesses took so long, and gave so many tokens."""
        rows = next(rows for rows in _ROWS if rows > n_guesses)
        usual = self._seconds.get(rows, seconds)
        seconds = min(seconds, _HICCUP * usual)
        if rows == n_guesses + 1 or rows not in self._seconds:
            self._seconds[rows] = usual + (seconds - usual) * _SMOOTH
        self._may_lose = min(_MOST, self._may_lose + n_said - seconds / self._single)
