"""Writes arrays: the first items, the rest, how many, some that must be there, none twice."""

from __future__ import annotations

import itertools
from typing import Protocol

from ..errors import InvalidSchema
from .document import dumps
from .evaluate import equal
from .nodes import Arrays, Key
from .plan import ArrayPlan, Planner
from .rules import Rules, quoted

__all__ = ["Writer", "write_array"]

MAX_STATES = 3000
MAX_VALUES = 500
MAX_PERMUTED = 5
MAX_LISTED = 1000


class Writer(Protocol):
    """What is needed of the writer of values."""

    rules: Rules
    planner: Planner

    def value(self, key: Key) -> str | None:
        """A rule for values, or None if there are none."""
        ...

    def texts(self, texts: tuple[str, ...]) -> str:
        """A rule for one of some texts."""
        ...


def write_array(writer: Writer, node: Arrays) -> str | None:
    """A rule for arrays, or None if there are none."""
    plan = writer.planner.arrays(node)
    if plan.unique is not None and (plan.most is None or plan.most > 1):
        return _unique(writer, plan)
    body = _counting(writer, plan) if plan.counted else _plain(writer, plan)
    if body is None:
        return None
    return writer.rules.add(f'"[" {body} "]"' if body else '"[]"', "array")


def _plain(writer: Writer, plan: ArrayPlan) -> str | None:
    rules = writer.rules
    first: list[str] = []
    most = plan.most
    for i, key in enumerate(plan.first):
        rule = writer.value(key) if most is None or i < most else None
        if rule is None:
            most = i
            break
        first.append(rule)
    rest = None
    if most is None or most > len(first):
        rest = writer.value(plan.rest)
        if rest is None:
            most = len(first)
    if most is not None and plan.least > most:
        return None
    count = len(first)
    tail = ""
    if rest is not None:
        if not first:  # the first one has no comma
            left = None if most is None else most - 1
            more = rules.add(f'", " {rest}', "more")
            body = f"{rest} {rules.repeated(more, max(plan.least - 1, 0), left)}".strip()
            return body if plan.least else rules.choice([body, '""'], "items")
        more = rules.add(f'", " {rest}', "more")
        tail = rules.repeated(
            more, max(plan.least - count, 0), None if most is None else most - count
        )
    for i in reversed(range(count)):
        one = f"{rules.add(first[i] if i == 0 else f'{_COMMA} {first[i]}', 'item')} {tail}".strip()
        tail = one if i < plan.least else rules.choice([one, '""'], "items")
    return tail


_COMMA = '", "'


def _counting(writer: Writer, plan: ArrayPlan) -> str | None:
    """With so many items of some kinds: a state is how many items there are, and how many of each kind."""
    rules = writer.rules
    enough = [max(least, -1 if most is None else most + 1) for _, least, most in plan.counted]
    longest = max(len(plan.first), plan.least, 0 if plan.most is None else plan.most, 1)
    states = longest
    for one in enough:
        states *= one + 1
    if states > MAX_STATES:
        place = plan.counted[0][0].place
        raise InvalidSchema(
            place.pointer, "contains", "it needs too large a grammar together with the bounds"
        )
    known: dict[tuple[int, tuple[int, ...]], str | None] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}

    def after(i: int, counts: tuple[int, ...]) -> str | None:
        """What follows when there are ``i`` items."""
        state = min(i, longest), counts
        if state in known:
            return known[state]
        ways: list[str] = []
        loops: list[str] = []
        if plan.most is None or i < plan.most:
            for chosen in itertools.product((False, True), repeat=len(counts)):
                following = tuple(
                    min(count + counted, most)
                    for count, counted, most in zip(counts, chosen, enough, strict=True)
                )
                if any(
                    most is not None and count > most
                    for count, (_, _, most) in zip(following, plan.counted, strict=True)
                ):
                    continue
                if (
                    any(chosen)
                    and following == counts
                    and all(m is None for _, _, m in plan.counted)
                ):
                    continue  # counting further says nothing
                rule = writer.value(plan.counted_item(i, chosen))
                if rule is None:
                    continue
                one = rule if i == 0 else f"{_COMMA} {rule}"
                if (min(i + 1, longest), following) == state:
                    loops.append(one)
                    continue
                rest = after(i + 1, following)
                if rest is not None:
                    ways.append(f"{one} {rest}".strip())
        done = i >= plan.least and all(
            count >= least for count, (_, least, _) in zip(counts, plan.counted, strict=True)
        )
        if done:
            ways.append('""')
        if not ways:
            known[state] = None
        elif loops:
            loop = rules.choice(loops, "item")
            known[state] = f"{loop}* {rules.choice(ways, 'items')}"
        else:
            known[state] = rules.choice(ways, "items")
        return known[state]

    del names
    return after(0, (0,) * len(plan.counted))


def _unique(writer: Writer, plan: ArrayPlan) -> str | None:
    """Without two equal items: only where all values can be listed, or where no two places can have the same one."""
    assert plan.unique is not None
    meaning = writer.planner.meaning
    why = "it can be enforced only for items that are listed, in an enum for example"
    refusal = InvalidSchema(plan.unique.place.pointer, "uniqueItems", why)
    if plan.counted:
        raise refusal
    rules = writer.rules
    if not plan.first:
        values = meaning.finite(plan.rest, MAX_VALUES)
        if values is None:
            raise refusal
        body = _distinct(rules, [dumps(value) for value in values], plan.least, plan.most, refusal)
        return None if body is None else rules.add(f'"[" {body} "]"', "array")
    # Only the first items, then: fewer arrays.
    places = plan.first if plan.most is None else plan.first[: plan.most]
    listed = [meaning.finite(key, MAX_VALUES) for key in places]
    texts: list[str] = []
    for length in range(plan.least, len(places) + 1):
        chosen = [one for one in listed[:length] if one is not None]
        if len(chosen) < length:
            break
        for values_ in itertools.islice(itertools.product(*chosen), MAX_LISTED):
            if not any(equal(a, b) for i, a in enumerate(values_) for b in values_[:i]):
                texts.append(dumps(list(values_)))
    if not texts or len(texts) > MAX_LISTED:
        raise refusal
    return writer.texts(tuple(texts))


def _distinct(
    rules: Rules, values: list[str], least: int, most: int | None, refusal: InvalidSchema
) -> str | None:
    """Some of the values: in any order if they are few, otherwise in the order of the schema."""
    most = len(values) if most is None else min(most, len(values))
    if least > most:
        return None
    if len(values) <= MAX_PERMUTED:
        return _permuted(rules, values, least, most, {}, frozenset())
    # How many there are matters up to here; without a greatest number only as long as some are missing.
    counted = most if most < len(values) else max(least, 1)
    if len(values) * (counted + 1) > MAX_STATES * 10:
        if least > MAX_STATES * 10 // len(values):
            raise refusal
        most = counted = max(least, MAX_STATES * 10 // len(values) - 1, 1)
    # From the end: `after[count]` is what may follow when `count` are written.
    after: list[str | None] = ['""' if count >= least else None for count in range(counted + 1)]
    for value in reversed(values):
        following: list[str | None] = []
        for count in range(counted + 1):
            ways: list[str] = []
            more = min(count + 1, counted) if most == len(values) else count + 1
            if more <= counted and (rest := after[more]) is not None:
                ways.append(f"{quoted(value if count == 0 else ', ' + value)} {rest}")
            if (skipped := after[count]) is not None:
                ways.append(skipped)
            following.append(rules.choice(ways, "items") if ways else None)
        after = following
    return after[0]


def _permuted(
    rules: Rules,
    values: list[str],
    least: int,
    most: int,
    known: dict[frozenset[str], str],
    used: frozenset[str],
) -> str:
    if used not in known:
        ways = ['""'] if len(used) >= least else []
        if len(used) < most:
            ways += [
                f"{quoted(value if not used else ', ' + value)} "
                + _permuted(rules, values, least, most, known, used | {value})
                for value in values
                if value not in used
            ]
        known[used] = rules.choice(ways, "items")
    return known[used]
