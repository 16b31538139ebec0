"""Writes objects: known members in their order, each required one there, then others."""

from __future__ import annotations

from typing import Protocol

from .charset import ANY
from .document import dumps
from .language import And, Automaton, Cat, Language, Rep, Set, automaton
from .nodes import Key
from .plan import ObjectPlan
from .rules import Rules, quoted

__all__ = ["Writer", "write_object"]

MAX_COUNTED = 3000
MAX_DISTINCT = 8


class Writer(Protocol):
    """What is needed of the writer of values."""

    rules: Rules

    def value(self, key: Key) -> str | None:
        """A rule for values, or None if there are none."""
        ...

    def name(self, language: Automaton) -> str:
        """A rule for a name."""
        ...


_Member = tuple[str, str, bool]
"""Name and colon as GBNF, the value's rule, and whether it is required."""
_Other = tuple[Language, str]


def write_object(writer: Writer, plan: ObjectPlan) -> str | None:
    """A rule for objects, or None if there are none."""
    members: list[_Member] = []
    for one in plan.members:
        rule = writer.value(one.key)
        if rule is not None:
            members.append((dumps(one.name) + ": ", rule, one.required))
        elif one.required:
            return None
    others: list[_Other] = []
    for language, key in plan.others:
        rule = writer.value(key)
        if rule is not None:
            others.append((language, rule))
    required = sum(one[2] for one in members)
    if plan.most is not None and plan.most < max(required, plan.least):
        return None
    possible = None if others else len(members)
    low = plan.least > required
    high = plan.most is not None and (possible is None or plan.most < possible)
    shape = _Shape(writer, members, others)
    body: str | None
    if not low and not high:
        body = shape.free()
    elif len(members) ** 2 <= MAX_COUNTED:
        body = shape.counted(plan.least, plan.most)
    else:
        shape.members = _fewer(members, plan.least - required, plan.most)
        shape.others = []
        missing = plan.least > len(shape.members)
        body = None if missing else shape.free()
    if body is None:
        return None
    return writer.rules.add(f'"{{" {body} "}}"' if body else '"{}"', "object")


def _fewer(members: list[_Member], missing: int, most: int | None) -> list[_Member]:
    """So many members that any choice of them is within the bounds."""
    required = sum(one[2] for one in members)
    room = len(members) if most is None else most - required
    kept: list[_Member] = []
    for name, rule, needed in members:
        if needed:
            kept.append((name, rule, True))
        elif room > 0:
            kept.append((name, rule, missing > 0))
            room -= 1
            missing -= 1
    return kept


class _Shape:
    """The members of one object."""

    def __init__(self, writer: Writer, members: list[_Member], others: list[_Other]) -> None:
        self.writer = writer
        self.rules = writer.rules
        self.members = members
        self.others = others

    def _other(self) -> str | None:
        """A rule for any other member."""
        ways = [
            f'{self.writer.name(automaton(language))} ": " {rule}' for language, rule in self.others
        ]
        return self.rules.choice(ways, "other") if ways else None

    def _next(self, name: str, rule: str, first: bool) -> str:
        return f"{quoted(('' if first else ', ') + name)} {rule}"

    def free(self) -> str:
        """Without counting."""
        other = self._other()
        more = self.rules.add(f'", " {other}', "more") if other else ""
        tail = [f"{more}*"] if more else []
        # Behind the first required member everything else has its comma before it.
        first = next((i for i, one in enumerate(self.members) if one[2]), len(self.members))
        for name, rule, required in reversed(self.members[first + 1 :]):
            one = self._next(name, rule, False)
            tail.insert(0, one if required else self.rules.add(f'{one} | ""', "option"))
        ways: list[str] = []
        if first < len(self.members):
            name, rule, _ = self.members[first]
            begin = " ".join([self._next(name, rule, True), *tail])
            follow = " ".join([self._next(name, rule, False), *tail])
        else:
            begin = " ".join([other, *tail]) if other else ""
            follow = " ".join(tail)
        if not first:
            return (
                self.rules.choice([begin, '""'], "members") if begin and not self.members else begin
            )
        # Before it, any optional member may be the first.
        following = self.rules.add(follow, "rest") if follow else ""
        for name, rule, _ in reversed(self.members[:first]):
            ways.append(f"{self._next(name, rule, True)} {following}".strip())
            option = self.rules.add(f'{self._next(name, rule, False)} | ""', "option")
            following = self.rules.add(f"{option} {following}".strip(), "rest")
        ways.reverse()
        if begin:
            ways.append(begin)
        if first == len(self.members):
            ways.append('""')
        return self.rules.choice(ways, "members")

    def counted(self, least: int, most: int | None) -> str | None:
        """With so many members."""
        known: dict[tuple[int, int], str | None] = {}

        def after(i: int, count: int) -> str | None:
            """The members from i on, when ``count`` are written; "" for nothing."""
            if (i, count) not in known:
                known[i, count] = self._counted(i, count, least, most, after)
            return known[i, count]

        return after(0, 0)

    def _counted(
        self, i: int, count: int, least: int, most: int | None, after: _After
    ) -> str | None:
        if most is not None and count > most:
            return None
        if i == len(self.members):
            return self._others_counted(
                count == 0, max(least - count, 0), None if most is None else most - count
            )
        name, rule, required = self.members[i]
        ways: list[str] = []
        if (rest := after(i + 1, count + 1)) is not None:
            ways.append(f"{self._next(name, rule, count == 0)} {rest}".strip())
        if not required and (rest := after(i + 1, count)) is not None:
            ways.append(rest or '""')
        return self.rules.choice(ways, "members") if ways else None

    def _others_counted(self, first: bool, least: int, most: int | None) -> str | None:
        other = self._other()
        if other is None or most == 0:
            return None if least else ""
        begin: list[str] = []
        if least > 1:
            distinct = self._distinct(least)
            if distinct is None:
                return None
            begin = [f'", " {one}' for one in distinct]
        elif least == 1:
            begin = [f'", " {other}']
        more = self.rules.add(f'", " {other}', "more")
        left = None if most is None else most - max(least, 1 if first else 0)
        if begin:
            if first:
                begin[0] = begin[0].removeprefix('", " ')
            return " ".join([*begin, self.rules.repeated(more, 0, left)]).strip()
        if first:
            one = f"{other} {self.rules.repeated(more, 0, left)}".strip()
            return self.rules.choice([one, '""'], "members")
        return self.rules.repeated(more, 0, left)

    def _distinct(self, count: int) -> list[str] | None:
        """So many other members whose names surely differ: by their lengths, modulo their number."""
        if count > MAX_DISTINCT:
            return None
        found: list[str] = []
        for i in range(count):
            ways: list[str] = []
            for language, rule in self.others:
                some = Set(ANY)
                length = Cat((Rep(some, i, i), Rep(Rep(some, count, count), 0, None)))
                machine = automaton(And((language, length)))
                if not machine.empty:
                    ways.append(f'{self.writer.name(machine)} ": " {rule}')
            if not ways:
                return None
            found.append(self.rules.choice(ways, "other"))
        return found


class _After(Protocol):
    def __call__(self, i: int, count: int) -> str | None: ...
