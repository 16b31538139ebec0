"""What a schema means: for each type, the sets of values whose union it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..errors import InvalidSchema
from .document import Document, Json, Place, canonical, dumps
from .effects import Alternative, Clause, Effect, OneOf
from .evaluate import Evaluator, kind
from .keywords import Keywords
from .language import TooLarge, automaton
from .nodes import (
    Arrays,
    Booleans,
    Key,
    Literal,
    Node,
    Nulls,
    Numbers,
    ObjectOrigin,
    Objects,
    Strings,
    Values,
    top,
)
from .regex import found_in

__all__ = ["KINDS", "Meaning"]

KINDS = ("null", "boolean", "number", "string", "array", "object")
MAX_ALTERNATIVES = 400
MAX_STEPS = 20_000
MAX_LOOK = 6


@dataclass
class _Branch:
    """One way through the alternatives, as far as it was followed."""

    node: Node
    todo: list[Literal]
    seen: set[Literal]
    clauses: list[Clause]
    values: tuple[Json, ...] | None = None


class Meaning:
    """The sets of values that literals of one document describe, each computed once."""

    def __init__(self, document: Document, formats: bool = False) -> None:
        self.document = document
        self._evaluator = Evaluator(document)
        self._keywords = Keywords(document, self._disjoint, formats)
        self._sets: dict[tuple[Key, str, bool], tuple[Node, ...]] = {}
        self._empty: dict[tuple[Key, str], bool] = {}
        self._ended: set[int] = set()

    @property
    def lost(self) -> list[InvalidSchema]:
        """Why alternatives had to be left out."""
        return self._keywords.lost

    def sets(self, key: Key, of: str, wide: bool = False) -> tuple[Node, ...]:
        """The sets whose union holds the values of a type that satisfy all literals.

        Narrow sets hold such values only; wide ones hold all of them.

        Raises:
            InvalidSchema: a keyword that cannot be enforced, or a reference that leads nowhere.
        """
        known = self._sets.get((key, of, wide))
        if known is None:
            ordered = sorted(key, key=lambda one: (one.place.number, one.positive))
            for literal in ordered:
                self._check_ends(literal.place)
            found = dict.fromkeys(self._branches(key, ordered, of, wide))
            known = self._sets[key, of, wide] = tuple(found)
        return known

    def _branches(self, key: Key, literals: list[Literal], of: str, wide: bool) -> list[Node]:
        todo = [_Branch(top(of), literals, set(), [])]
        found: list[Node] = []
        steps = 0
        limit = MAX_ALTERNATIVES
        while todo:
            branch = todo.pop()
            steps += 1
            if steps > max(MAX_STEPS, 3 * limit) or len(found) >= limit:
                # Fewer alternatives are narrower.
                return [*found, top(of)] if wide else found
            if not self._settle(branch, of, wide):
                continue
            if branch.clauses:
                clause = min(branch.clauses, key=len)
                limit = max(limit, len(clause))  # what is written out one by one is not too much
                left = [one for one in branch.clauses if one is not clause]
                for alternative in reversed(clause):
                    following = _Branch(
                        branch.node, [], set(branch.seen), list(left), branch.values
                    )
                    _apply(following, alternative)
                    todo.append(following)
                continue
            found += self._finished(branch, key, of, wide)
        return found

    def _settle(self, branch: _Branch, of: str, wide: bool) -> bool:
        """Follow all that has one alternative only; False if none is left."""
        while branch.todo:
            literal = branch.todo.pop(0)
            if literal in branch.seen:
                continue
            if ~literal in branch.seen:
                return False
            branch.seen.add(literal)
            for clause in self._keywords.clauses(literal, of, wide):
                if not clause:
                    return False
                if len(clause) == 1:
                    _apply(branch, clause[0])
                else:
                    branch.clauses.append(clause)
        return not self._surely_empty(branch.node)

    def _surely_empty(self, node: Node) -> bool:
        match node:
            case Booleans():
                return not node.values
            case Numbers():
                return node.empty
            case Strings():
                return node.most is not None and node.least > node.most
            case Arrays():
                return node.most is not None and node.least > node.most
            case Objects():
                return node.most is not None and max(node.least, len(node.required)) > node.most
            case _:
                return False

    def _finished(self, branch: _Branch, key: Key, of: str, wide: bool) -> list[Node]:
        if branch.values is not None:
            values = self._satisfying(branch.values, [*key, *branch.seen], of, wide)
            return [Values(tuple(map(dumps, values)), tuple(values))] if values else []
        node = branch.node
        if isinstance(node, Objects) and node.outside and not wide:
            return list(self._violated(node))
        return [node]

    def _satisfying(
        self, values: Iterable[Json], literals: list[Literal], of: str, wide: bool
    ) -> list[Json]:
        literals = list(dict.fromkeys(literals))
        kept: list[Json] = []
        for value in values:
            if kind(value) != of:
                continue
            verdict = self._all_hold(value, literals)
            if verdict or (wide and verdict is None):
                kept.append(value)
        return kept

    def _all_hold(self, value: Json, literals: list[Literal]) -> bool | None:
        verdict: bool | None = True
        for literal in literals:
            valid = self._evaluator.valid(value, literal.place)
            if valid is None:
                verdict = None
            elif valid is not literal.positive:
                return False
        return verdict

    def _violated(self, node: Objects) -> Iterator[Node]:
        """With a member outside of each origin that must be violated: one of those that another schema names."""
        choices = [
            [(name, origin) for name in node.declared if not _inside(name, origin)]
            for origin in node.outside
        ]
        for chosen in itertools.islice(itertools.product(*choices), 16):
            result = replace(node, outside=())
            for name, origin in chosen:
                assert origin.additional is not None
                violation = ObjectOrigin(((name, ~origin.additional),))
                result = replace(result.requiring([name]), origins=(*result.origins, violation))
            yield result

    # whether there is any

    def _disjoint(self, one: Place, two: Place, of: str) -> bool:
        return self.empty(frozenset({Literal(one), Literal(two)}), of)

    def empty(self, key: Key, of: str, depth: int = 0) -> bool:
        """Whether surely no value of a type satisfies all literals."""
        known = self._empty.get((key, of))
        if known is not None:
            return known
        if depth > MAX_LOOK:
            return False
        answer = True
        for node in self.sets(key, of, True):
            if not self._empty_node(node, depth):
                answer = False
                break
        if answer or depth == 0:
            self._empty[key, of] = answer
        return answer

    def _empty_node(self, node: Node, depth: int) -> bool:
        if self._surely_empty(node):
            return True
        match node:
            case Strings() if node.languages:
                try:
                    return automaton(node.language()).empty
                except TooLarge:
                    return False
            case Arrays():
                needed = [node.item(i) for i in range(min(node.least, 20))]
            case Objects():
                needed = [member(node, name, True) for name in node.required]
            case _:
                return False
        for key in needed:  # noqa: SIM110 (any() takes from the stack of C)
            if self._nothing(key, depth):
                return True
        return False

    def _nothing(self, key: Key, depth: int) -> bool:
        for of in KINDS:
            if not self.empty(key, of, depth + 1):
                return False
        return bool(key)

    def finite(self, key: Key, most: int) -> list[Json] | None:
        """All values that satisfy the literals, or None if they are more than ``most``, or not known."""
        found: list[Json] = []
        for of in KINDS:
            for node in self.sets(key, of):
                values = _listed(node, most)
                if values is None:
                    return None
                found += values
        distinct = {canonical(value): value for value in found}
        return list(distinct.values()) if len(distinct) <= most else None

    # references that never end

    def _check_ends(self, place: Place) -> None:
        """Refuse a schema that refers to itself for the same value: nothing would ever be decided."""
        if place.number in self._ended:
            return
        todo: list[tuple[Place, str, bool]] = [(place, "", False)]
        open_places: set[int] = set()
        while todo:
            here, keyword, done = todo.pop()
            if done:
                open_places.discard(here.number)
                self._ended.add(here.number)
                continue
            if here.number in open_places:
                raise InvalidSchema(
                    here.pointer, keyword, "it refers to itself for the same value, without end"
                )
            if here.number in self._ended:
                continue
            open_places.add(here.number)
            todo.append((here, keyword, True))
            todo.extend((below, key, False) for key, below in self._in_place(here))

    def _in_place(self, place: Place) -> Iterator[tuple[str, Place]]:
        schema = place.schema
        if isinstance(schema, bool):
            return
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in schema:
                yield keyword, self.document.target(place, keyword)
        if place.old and "$ref" in schema:
            return
        for keyword in ("allOf", "anyOf", "oneOf"):
            given = schema.get(keyword, [])
            assert isinstance(given, list)
            for i in range(len(given)):
                yield keyword, self.document.below(place, keyword, i)
        for keyword in ("not", "if", "then", "else"):
            if keyword in schema:
                yield keyword, self.document.below(place, keyword)
        for keyword in ("dependentSchemas", "dependencies"):
            given = schema.get(keyword, {})
            assert isinstance(given, dict)
            for name, one in given.items():
                if not isinstance(one, list):
                    yield keyword, self.document.below(place, keyword, name)


def member(node: Objects, name: str, wide: bool = False) -> Key:
    """What the member of that name must satisfy."""
    found: list[Literal] = []
    for origin in node.origins:
        literal = origin.named.get(name)
        matched = literal is not None
        if literal is not None:
            found.append(literal)
        unsure = False
        for pattern, one in origin.patterns:
            if automaton(found_in(pattern)).accepts(name):
                found.append(one)
                matched = True
            elif automaton(found_in(pattern, True)).accepts(name):
                # Engines differ: both readings must allow it, or, wide, neither counts.
                unsure = True
                if not wide:
                    found.append(one)
        if not matched and origin.additional is not None and not (unsure and wide):
            found.append(origin.additional)
    return frozenset(found)


def _inside(name: str, origin: ObjectOrigin) -> bool:
    return name in origin.named or any(
        automaton(found_in(pattern, True)).accepts(name) for pattern, _ in origin.patterns
    )


def _apply(branch: _Branch, alternative: Alternative) -> None:
    effect: Effect
    for effect in alternative:
        if isinstance(effect, Literal):
            branch.todo.append(effect)
        elif isinstance(effect, OneOf):
            if branch.values is None:
                branch.values = effect.values
            # A second list of values is a literal of its own, and was seen: each value is checked against it.
        else:
            branch.node = effect(branch.node)


def _listed(node: Node, most: int) -> list[Json] | None:
    match node:
        case Nulls():
            return [None]
        case Booleans():
            return sorted(node.values)  # type: ignore[return-value]
        case Values():
            return list(node.json)
        case Numbers(multiple=multiple) if multiple is not None and multiple.denominator == 1:
            low, high = node.limits()
            if low is None or high is None or high - low > most:
                return None
            numbers = (n * multiple for n in range(low, high + 1))
            return [int(one) for one in numbers if node.holds(one)]
        case Strings() if node.languages or node.most is not None:
            try:
                return automaton(node.language()).some(most)  # type: ignore[return-value]
            except TooLarge:
                return None
        case _:
            return None
