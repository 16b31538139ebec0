"""Numbers between bounds, and multiples, as automata of digits.

Everything is whole numbers: with at most ``places`` decimals, a number times ``10 ** places`` is one. A float holds 15
significant digits exactly: with no more than these, what is inside a bound as text stays so as a float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .charset import CharSet, chars
from .language import Automaton
from .nodes import Numbers

__all__ = ["TooFine", "digits", "listed"]

SIGNIFICANT = 15
WHOLE = 9
HUGE = 10**SIGNIFICANT
MAX_STATES = 6000
FEWER = 600
"""With a long period, numbers without a bound have so many digits less."""
MAX_PLACES = 40
MAX_LISTED = 200


class TooFine(Exception):
    """A period of multiples that would need too many states."""


@dataclass(frozen=True)
class _Scaled:
    """Whole numbers from ``low`` to ``high`` that are multiples of ``step`` and not of others, and not excluded."""

    low: int | None
    high: int | None
    step: int
    not_steps: tuple[int, ...]
    excluded: frozenset[int]
    places: int


def digits(numbers: Numbers) -> tuple[Automaton | None, Automaton | None]:
    """Automata of the texts of those below zero, without the sign, and of all others; None if there are none.

    Raises:
        TooFine: the multiples have too long a period.
    """
    scaled = _scaled(numbers)
    below = above = None
    if scaled.low is None or scaled.low < 0:
        high = None if scaled.low is None else -scaled.low
        low = 1 if scaled.high is None else max(1, -scaled.high)
        below = _Digits(scaled, low, high, {-one for one in scaled.excluded if one < 0}).automaton()
    if scaled.high is None or scaled.high >= 0:
        low = 0 if scaled.low is None else max(0, scaled.low)
        above = _Digits(
            scaled, low, scaled.high, {o for o in scaled.excluded if o >= 0}
        ).automaton()
    return (None if below is None or below.empty else below), (
        None if above is None or above.empty else above
    )


def listed(numbers: Numbers) -> list[str] | None:
    """The texts of all of them, if they are few multiples of one number; otherwise None."""
    if numbers.multiple is None:
        return None
    low, high = numbers.limits()
    places = _places(numbers.multiple)
    if low is None or high is None or high - low > MAX_LISTED or places > MAX_PLACES:
        return None
    texts: list[str] = []
    for factor in range(low, high + 1):
        number = factor * numbers.multiple
        scaled = number * 10**places
        if numbers.holds(number) and scaled.denominator == 1:
            digits = str(abs(scaled.numerator)).zfill(places + 1)
            whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
            part = part.rstrip("0")
            texts.append("-" * (number < 0) + whole + ("." + part if part else ""))
    return texts


def _scaled(numbers: Numbers) -> _Scaled:
    if numbers.multiple is not None:
        places = _places(numbers.multiple)
    else:
        ends = [abs(bound[0]) for bound in (numbers.low, numbers.high) if bound is not None]
        near = [len(str(int(end))) for end in ends if end < HUGE]
        widest = max([*near, WHOLE] if len(near) < 2 else near)
        if _is_huge(numbers):
            widest = SIGNIFICANT
        # To be no multiple of something is to be told by a remainder: few decimals, or it has too many values.
        places = max(0, min(SIGNIFICANT - widest, 2 if numbers.not_multiples else SIGNIFICANT))
        needed = max((_places(end) for end in ends), default=0)
        if needed > places and _is_empty(_at(numbers, places)):
            places = min(needed + 1, MAX_PLACES)
    return _at(numbers, places)


def _is_huge(numbers: Numbers) -> bool:
    """Whether all of them are: then a float has no room for decimals."""
    low, high = numbers.low, numbers.high
    return (low is not None and low[0] >= HUGE) or (high is not None and high[0] <= -HUGE)


def _places(number: Fraction) -> int:
    """Decimals of a number, or of its multiples that can be written."""
    two = five = 0
    rest = number.denominator
    while rest % 2 == 0:
        rest, two = rest // 2, two + 1
    while rest % 5 == 0:
        rest, five = rest // 5, five + 1
    return max(two, five)


def _at(numbers: Numbers, places: int) -> _Scaled:
    if places > MAX_PLACES:
        raise TooFine
    scale = 10**places
    low = high = None
    if numbers.low is not None:
        low = math.ceil(numbers.low[0] * scale)
        low += numbers.low[1] and low == numbers.low[0] * scale
    if numbers.high is not None:
        high = math.floor(numbers.high[0] * scale)
        high -= numbers.high[1] and high == numbers.high[0] * scale
    # Of the multiples of p/q, those that can be written so are the multiples of p.
    step = 1 if numbers.multiple is None else (numbers.multiple * scale).numerator
    not_steps = tuple(sorted((one * scale).numerator for one in numbers.not_multiples))
    excluded = frozenset(
        int(one * scale) for one in numbers.excluded if (one * scale).denominator == 1
    )
    return _Scaled(low, high, step, not_steps, excluded, places)


def _is_empty(scaled: _Scaled) -> bool:
    return scaled.low is not None and scaled.high is not None and scaled.low > scaled.high


def _without(number: int, prime: int) -> int:
    while number % prime == 0:
        number //= prime
    return number


_Entry = tuple[int, bool, bool, tuple[int, ...], frozenset[str]]
"""Digits left, still on the lower bound, still on the upper one, remainders with zeros for the digits left, excluded
numbers that begin like this."""

_SURELY = -1
"""Instead of a remainder: whatever follows, it will not be a multiple."""

_State = tuple[frozenset[tuple[int, _Entry]], bool]
"""Entries by their number of digits, and whether the point was read."""

_NUMERALS = [chars(c) for c in "0123456789"]
_DOT = chars(".")


class _Digits:
    """An automaton for texts of whole numbers from ``low`` to ``high``, with a point before the last ``places`` digits.

    Decimals at the end may be missing: they are zeros.
    """

    def __init__(self, scaled: _Scaled, low: int, high: int | None, excluded: set[int]) -> None:
        self._places = scaled.places
        self._steps = (scaled.step, *scaled.not_steps)
        least = self._wholes(low)
        # Twos and fives of a period are told by the last digits: they cost little.
        period = math.prod(_without(_without(step, 2), 5) for step in self._steps)
        room = MAX_STATES // period - scaled.places
        if room < max(least, 4):
            raise TooFine
        if high is None or self._wholes(high) > max(least, SIGNIFICANT) + 1:
            wanted = SIGNIFICANT - scaled.places if scaled.places else SIGNIFICANT
            wanted = max(min(wanted, FEWER // period), least + 1, 4)
            highest = 10 ** (min(wanted, max(room, least)) + scaled.places) - 1
        else:
            highest = min(high, 10 ** (room + scaled.places) - 1)
        self._low, self._high = low, highest
        self._bounds: dict[int, tuple[str, str]] = {}
        for wholes in range(least, self._wholes(highest) + 1):
            total = wholes + self._places
            lower, upper = str(low).zfill(total), str(highest).zfill(total)
            # "" for a bound that says nothing.
            self._bounds[total] = (
                lower if wholes == least and low else "",
                upper if wholes == self._wholes(highest) and upper.strip("9") else "",
            )
        self._excluded = excluded

    def _wholes(self, number: int) -> int:
        """Digits before the point."""
        return max(1, len(str(number)) - self._places)

    def _start(self) -> frozenset[tuple[int, _Entry]]:
        entries: set[tuple[int, _Entry]] = set()
        if self._low > self._high:
            return frozenset()
        for total, (low, high) in self._bounds.items():
            texts = frozenset(
                text
                for one in self._excluded
                if len(text := str(one).zfill(total)) == total
                and self._wholes(one) + self._places == total
            )
            rests = (0,) * len(self._steps)
            entries.add((total, (total, bool(low), bool(high), rests, texts)))
        return frozenset(entries)

    def _read(self, total: int, entry: _Entry, digit: str) -> _Entry | None:
        left, on_low, on_high, rests, texts = entry
        if left == total and digit == "0" and total > self._places + 1:
            return None  # no leading zeros
        at = total - left
        low, high = self._bounds[total]
        if on_low:
            if digit < low[at]:
                return None
            on_low = digit == low[at]
        if on_high:
            if digit > high[at]:
                return None
            on_high = digit == high[at]
        left -= 1
        following = tuple(
            self._rest(rest, int(digit), left, step)
            for rest, step in zip(rests, self._steps, strict=True)
        )
        if following[0] == _SURELY:
            return None
        kept = frozenset(text for text in texts if text[at] == digit)
        return left, on_low, on_high, following, kept

    def _rest(self, rest: int, digit: int, left: int, step: int) -> int:
        if rest == _SURELY:
            return rest
        rest = (rest + digit * 10**left) % step
        return rest if -rest % step < 10**left else _SURELY

    def _ends(self, total: int, entry: _Entry) -> bool:
        """Whether it may end here, zeros filling up what is left."""
        left, on_low, _, rests, texts = entry
        if left > self._places:
            return False
        at = total - left
        low, _ = self._bounds[total]
        return (
            not (on_low and low[at:].strip("0"))
            and rests[0] == 0
            and 0 not in rests[1:]
            and not any(not text[at:].strip("0") for text in texts)
        )

    def automaton(self) -> Automaton:
        start: _State = (self._start(), False)
        if not start[0]:
            return Automaton((), ())
        numbers: dict[_State, int] = {start: 0}
        order: list[_State] = [start]
        moves: list[dict[int, CharSet]] = []
        ends: list[bool] = []

        def number(state: _State) -> int:
            if state not in numbers:
                if len(order) > MAX_STATES * 2:
                    raise TooFine
                numbers[state] = len(order)
                order.append(state)
            return numbers[state]

        for entries, behind in order:
            by_target: dict[int, CharSet] = {}
            fresh = behind and all(entry[0] == self._places for _, entry in entries)
            ends.append(not fresh and any(self._ends(total, entry) for total, entry in entries))
            for digit in "0123456789":
                following = frozenset(
                    (total, read)
                    for total, entry in entries
                    if entry[0] > (0 if behind else self._places)
                    if (read := self._read(total, entry, digit)) is not None
                )
                if following:
                    target = number((following, behind))
                    by_target[target] = by_target.get(target, CharSet(())) | _NUMERALS[int(digit)]
            if not behind and self._places:
                at_point = frozenset(
                    (total, entry) for total, entry in entries if entry[0] == self._places
                )
                if at_point:
                    target = number((at_point, True))
                    by_target[target] = _DOT
            moves.append(by_target)
        return _trimmed(ends, moves)


def _trimmed(ends: list[bool], moves: list[dict[int, CharSet]]) -> Automaton:
    """Without dead ends, and with states that accept the same made one."""
    before: list[list[int]] = [[] for _ in moves]
    for state, by_target in enumerate(moves):
        for target in by_target:
            before[target].append(state)
    alive = {state for state, end in enumerate(ends) if end}
    todo = list(alive)
    while todo:
        for state in before[todo.pop()]:
            if state not in alive:
                alive.add(state)
                todo.append(state)
    if 0 not in alive:
        return Automaton((), ())
    # No cycles: each digit leaves fewer. So equal states are found from the end.
    merged: dict[tuple[bool, tuple[tuple[CharSet, int], ...]], int] = {}
    becomes: dict[int, int] = {}
    finished: list[tuple[bool, tuple[tuple[CharSet, int], ...]]] = []
    for state in sorted(alive, reverse=True):
        steps: dict[int, CharSet] = {}
        for target, chosen in moves[state].items():
            if target in alive:
                to = becomes[target]
                steps[to] = steps.get(to, CharSet(())) | chosen
        key = (ends[state], tuple(sorted(((c, t) for t, c in steps.items()), key=lambda s: s[1])))
        if key not in merged:
            merged[key] = len(finished)
            finished.append(key)
        becomes[state] = merged[key]
    last = len(finished) - 1
    turned = [
        (end, tuple((chosen, last - target) for chosen, target in steps))
        for end, steps in reversed(finished)
    ]
    return Automaton(tuple(end for end, _ in turned), tuple(steps for _, steps in turned))
