"""Sets of JSON values of one type, in the form that grammars are made from. A schema is a union of such sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .charset import ANY
from .document import Json, Place
from .language import EVERYTHING, And, Language, Rep, Set

__all__ = [
    "ArrayOrigin",
    "Arrays",
    "Booleans",
    "Literal",
    "Node",
    "Nulls",
    "Numbers",
    "ObjectOrigin",
    "Objects",
    "Strings",
    "Values",
    "top",
]


@dataclass(frozen=True)
class Literal:
    """A schema that must hold, or must not."""

    place: Place
    positive: bool = True

    def __invert__(self) -> Literal:
        return Literal(self.place, not self.positive)


Key = frozenset[Literal]
"""Literals that hold at once: what a value inside another one must satisfy."""


@dataclass(frozen=True)
class Nulls:
    """Null."""


@dataclass(frozen=True)
class Booleans:
    """Some of the two."""

    values: frozenset[bool] = frozenset({True, False})


Bound = tuple[Fraction, bool] | None
"""A bound, and whether it is itself outside."""


@dataclass(frozen=True)
class Numbers:
    """Numbers between bounds, multiples of one number and not of others."""

    low: Bound = None
    high: Bound = None
    multiple: Fraction | None = None
    not_multiples: frozenset[Fraction] = frozenset()
    excluded: frozenset[Fraction] = frozenset()

    def above(self, bound: Fraction, strict: bool) -> Numbers:
        """Those above a bound, too."""
        if self.low is None or (bound, strict) > self.low:
            return replace(self, low=(bound, strict))
        return self

    def below(self, bound: Fraction, strict: bool) -> Numbers:
        """Those below a bound, too."""
        if self.high is None or (-bound, strict) > (-self.high[0], self.high[1]):
            return replace(self, high=(bound, strict))
        return self

    def multiples(self, of: Fraction) -> Numbers:
        """Those that are multiples of a number, too."""
        mine = self.multiple
        if mine is None:
            return replace(self, multiple=of)
        numerator = math.lcm(mine.numerator, of.numerator)
        denominator = math.gcd(mine.denominator, of.denominator)
        return replace(self, multiple=Fraction(numerator, denominator))

    def limits(self) -> tuple[int | None, int | None]:
        """Least and greatest factor of ``multiple``, bounds included."""
        assert self.multiple is not None
        low = high = None
        if self.low is not None:
            low = math.ceil(self.low[0] / self.multiple)
            low += self.low[1] and low * self.multiple == self.low[0]
        if self.high is not None:
            high = math.floor(self.high[0] / self.multiple)
            high -= self.high[1] and high * self.multiple == self.high[0]
        return low, high

    def holds(self, number: Fraction) -> bool:
        """Whether it is one of them."""
        low, high = self.low, self.high
        return (
            (low is None or number > low[0] or (number == low[0] and not low[1]))
            and (high is None or number < high[0] or (number == high[0] and not high[1]))
            and (self.multiple is None or number % self.multiple == 0)
            and all(number % one for one in self.not_multiples)
            and number not in self.excluded
        )

    @property
    def empty(self) -> bool:
        """Whether there is surely none."""
        if self.multiple is not None:
            low, high = self.limits()
            if low is not None and high is not None:
                if low > high:
                    return True
                if high - low < 100:
                    return not any(self.holds(n * self.multiple) for n in range(low, high + 1))
            return any(self.multiple % one == 0 for one in self.not_multiples)
        if self.low is None or self.high is None or self.low[0] < self.high[0]:
            return False
        return not self.holds(self.low[0])


@dataclass(frozen=True)
class Strings:
    """Strings of some length that are in all of the languages."""

    least: int = 0
    most: int | None = None
    languages: tuple[Language, ...] = ()

    def language(self) -> Language:
        """All of it as one language."""
        parts = list(self.languages)
        if self.least or self.most is not None:
            parts.append(Rep(Set(ANY), self.least, self.most))
        if not parts:
            return EVERYTHING
        return parts[0] if len(parts) == 1 else And(tuple(parts))


@dataclass(frozen=True)
class ArrayOrigin:
    """What one schema says of items: the first ones, and the rest. None: nothing."""

    prefix: tuple[Literal, ...] = ()
    rest: Literal | None = None


@dataclass(frozen=True)
class Arrays:
    """Arrays. ``contains``: literals with the least and most items that satisfy each."""

    origins: tuple[ArrayOrigin, ...] = ()
    least: int = 0
    most: int | None = None
    unique: Literal | None = None
    contains: tuple[tuple[Literal, int, int | None], ...] = ()

    @property
    def prefix(self) -> int:
        """So many items, at the beginning, may differ from all others."""
        return max((len(origin.prefix) for origin in self.origins), default=0)

    def item(self, index: int) -> Key:
        """What the item must satisfy."""
        found: list[Literal] = []
        for origin in self.origins:
            if index < len(origin.prefix):
                found.append(origin.prefix[index])
            elif origin.rest is not None:
                found.append(origin.rest)
        return frozenset(found)


@dataclass(frozen=True)
class ObjectOrigin:
    """What one schema says of members: by name, by pattern, and of all others."""

    properties: tuple[tuple[str, Literal], ...] = ()
    patterns: tuple[tuple[str, Literal], ...] = ()
    additional: Literal | None = None
    named: dict[str, Literal] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "named", dict(self.properties))


@dataclass(frozen=True)
class Objects:
    """Objects.

    Attributes:
        names: what each name must satisfy.
        outside: origins that some member violates: one that they do not name, by its value.
    """

    origins: tuple[ObjectOrigin, ...] = ()
    required: tuple[str, ...] = ()
    names: tuple[Literal, ...] = ()
    least: int = 0
    most: int | None = None
    outside: tuple[ObjectOrigin, ...] = ()

    @property
    def declared(self) -> list[str]:
        """The names that some schema knows, in its order."""
        known = [name for origin in self.origins for name, _ in origin.properties]
        return list(dict.fromkeys([*known, *self.required]))

    def requiring(self, names: Iterable[str]) -> Objects:
        """Those that have these members, too."""
        return replace(self, required=tuple(dict.fromkeys([*self.required, *names])))


@dataclass(frozen=True)
class Values:
    """A few values, written out."""

    values: tuple[str, ...]
    json: tuple[Json, ...] = field(compare=False)


Node = Nulls | Booleans | Numbers | Strings | Arrays | Objects | Values

_TOPS: dict[str, Node] = {
    "null": Nulls(),
    "boolean": Booleans(),
    "number": Numbers(),
    "string": Strings(),
    "array": Arrays(),
    "object": Objects(),
}


def top(kind: str) -> Node:
    """All values of a type."""
    return _TOPS[kind]
