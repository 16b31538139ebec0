"""From sets of values to what is written: which members, which items, and which schemas contain themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InvalidSchema
from .language import EVERYTHING, And, Cat, Language, Not, Or, TooLarge, automaton, words
from .meaning import KINDS, Meaning, member
from .nodes import Arrays, Key, Literal, Node, Objects, Strings, Values, top
from .regex import found_in

__all__ = ["ArrayPlan", "Member", "ObjectPlan", "Planner"]

MAX_KEYS = 20_000
MAX_PATTERNS = 5
MAX_CONTAINS = 3
MAX_EXCLUDED = 300
"""Characters of names that other members of an object must not have; each may be a rule."""
MAX_EXCLUSIONS = 30
"""So many objects have rules of their own for that; the rest share some."""


@dataclass(frozen=True)
class Member:
    """A member with a known name."""

    name: str
    key: Key
    required: bool


@dataclass(frozen=True)
class ObjectPlan:
    """Members in their order, then others: for each group of names, what its values are."""

    members: tuple[Member, ...]
    others: tuple[tuple[Language, Key], ...]
    least: int
    most: int | None


@dataclass(frozen=True)
class ArrayPlan:
    """Items. ``first``: those before the rest; ``counted``: what some items must be, and how many."""

    first: tuple[Key, ...]
    rest: Key
    least: int
    most: int | None
    unique: Literal | None
    counted: tuple[tuple[Literal, int, int | None], ...]

    def item(self, index: int) -> Key:
        """What the item must satisfy."""
        return self.first[index] if index < len(self.first) else self.rest

    def counted_item(self, index: int, chosen: tuple[bool, ...]) -> Key:
        """The same, for an item that is to count, or surely does not."""
        key = set(self.item(index))
        for (literal, _, most), counts in zip(self.counted, chosen, strict=True):
            if counts:
                key.add(literal)
            elif most is not None:
                key.add(~literal)
        return frozenset(key)


class Planner:
    """Plans for literals, each made once."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning
        self._nodes: dict[Key, tuple[tuple[Node, ...], tuple[Node, ...]]] = {}
        self._objects: dict[Objects, ObjectPlan] = {}
        self._component: dict[Key, int] = {}
        self._exclusions = 0
        self._others_everywhere: Language | None = None

    def nodes(self, key: Key) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The sets to write, and those to write only if all of the first are empty.

        A schema that says nothing of ``type`` but something of objects means objects.
        """
        known = self._nodes.get(key)
        if known is None:
            sets = {of: self.meaning.sets(key, of) for of in KINDS}
            free = {of for of, nodes in sets.items() if top(of) in nodes}
            meant = [of for of in KINDS if sets[of] and of not in free]
            if all(sets.values()) and meant and free:
                first = tuple(node for of in meant for node in sets[of])
                known = first, tuple(node for of in KINDS if of in free for node in sets[of])
            else:
                known = tuple(node for of in KINDS for node in sets[of]), ()
            self._nodes[key] = known
        return known

    def objects(self, node: Objects) -> ObjectPlan:
        """What an object is written as."""
        known = self._objects.get(node)
        if known is None:
            known = self._objects[node] = self._planned(node)
        return known

    def _planned(self, node: Objects) -> ObjectPlan:
        allowed = self._names(node)
        members: list[Member] = []
        for name in node.declared:
            if allowed is None or automaton(allowed).accepts(name):
                key = member(node, name)
            else:
                key = frozenset({Literal(self.meaning.document.never)})
            members.append(Member(name, key, name in node.required))
        others = tuple(self._others(node, allowed)) if node.most is None or node.most > 0 else ()
        return ObjectPlan(tuple(members), others, node.least, node.most)

    def _names(self, node: Objects) -> Language | None:
        """The names that are allowed; None for all."""
        if not node.names:
            return None
        languages: list[Language] = []
        for one in self.meaning.sets(frozenset(node.names), "string"):
            if isinstance(one, Values):
                languages.append(words(str(value) for value in one.json))
            else:
                assert isinstance(one, Strings)
                languages.append(one.language())
        language = Or(tuple(languages))
        try:
            automaton(language)
        except TooLarge as error:
            place = node.names[0].place
            raise InvalidSchema(place.pointer, "", "the names need too large a grammar") from error
        return language

    def _others(self, node: Objects, allowed: Language | None) -> Iterator[tuple[Language, Key]]:
        patterns = list(dict.fromkeys(p for origin in node.origins for p, _ in origin.patterns))
        # A schema that lists its properties and says nothing of others means these. So do patterns.
        told = any(o.additional is not None for o in node.origins)
        listed = any(o.properties for o in node.origins) or bool(patterns)
        plain = told or not listed
        groups: list[tuple[str, ...]] = [()] if plain else []
        if len(patterns) <= MAX_PATTERNS:
            for count in range(1, len(patterns) + 1):
                groups += itertools.combinations(patterns, count)
        else:
            groups += [(pattern,) for pattern in patterns]
        for group in groups:
            key = self._other_key(node, group)
            if self._never(key):
                continue
            parts: list[Language] = [found_in(p) for p in group]
            parts += [Not(found_in(p, True)) for p in patterns if p not in group]
            if node.declared:
                parts.append(self._other_than(node.declared))
            if allowed is not None:
                parts.append(allowed)
            names = And(tuple(parts)) if parts else EVERYTHING
            try:
                if not automaton(names).empty:
                    yield names, key
            except TooLarge as error:
                raise InvalidSchema(
                    self._pointer(node), "patternProperties", "the names need too large a grammar"
                ) from error

    def _other_than(self, names: list[str]) -> Language:
        """Names that are none of these. Where they are many: also none that begins as one of these does."""
        known = self.meaning.document.names
        shared = self._exclusions >= MAX_EXCLUSIONS or sum(map(len, names)) > MAX_EXCLUDED
        if not shared or not known.issuperset(names):
            self._exclusions += 1
            return Not(words(names))
        if self._others_everywhere is None:
            for length in (12, 8, 5, 3, 2, 1):
                beginnings = sorted({name[:length] for name in known})
                if sum(map(len, beginnings)) <= MAX_EXCLUDED:
                    break
            self._others_everywhere = Not(Cat((words(beginnings), EVERYTHING)))
        return self._others_everywhere

    def _other_key(self, node: Objects, group: tuple[str, ...]) -> Key:
        found: list[Literal] = []
        for origin in node.origins:
            mine = [literal for pattern, literal in origin.patterns if pattern in group]
            found += mine
            if not mine and origin.additional is not None:
                found.append(origin.additional)
        return frozenset(found)

    def _never(self, key: Key) -> bool:
        return any(literal.place.schema is (not literal.positive) for literal in key)

    def _pointer(self, node: Objects) -> str:
        literals = [one for origin in node.origins for _, one in origin.patterns]
        return literals[0].place.pointer if literals else "#"

    def arrays(self, node: Arrays) -> ArrayPlan:
        """What an array is written as."""
        if len(node.contains) > MAX_CONTAINS:
            place = node.contains[0][0].place
            raise InvalidSchema(
                place.pointer, "contains", f"more than {MAX_CONTAINS} of them at once"
            )
        return ArrayPlan(
            tuple(node.item(i) for i in range(node.prefix)),
            node.item(node.prefix),
            node.least,
            node.most,
            node.unique,
            node.contains,
        )

    # what contains itself

    @property
    def recursive(self) -> bool:
        """Whether anything contains itself."""
        return bool(self._component)

    def component(self, key: Key) -> int | None:
        """The number of a group of literals that contain each other; None for those that do not contain themselves."""
        return self._component.get(key)

    def explore(self, root: Key) -> None:
        """Find out which literals contain themselves: Tarjan's algorithm, without recursion."""
        index: dict[Key, int] = {}
        low: dict[Key, int] = {}
        on_stack: set[Key] = set()
        stack: list[Key] = []
        work: list[tuple[Key, Iterator[Key]]] = []

        def enter(key: Key) -> None:
            if len(index) >= MAX_KEYS:
                raise InvalidSchema(
                    "#", "", f"more than {MAX_KEYS} different parts: make it smaller"
                )
            index[key] = low[key] = len(index)
            stack.append(key)
            on_stack.add(key)
            work.append((key, iter(list(dict.fromkeys(self._children(key))))))

        enter(root)
        while work:
            key, children = work[-1]
            for child in children:
                if child not in index:
                    enter(child)
                    break
                if child in on_stack:
                    low[key] = min(low[key], index[child])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[key])
                if low[key] == index[key]:
                    group: list[Key] = []
                    while True:
                        one = stack.pop()
                        on_stack.discard(one)
                        group.append(one)
                        if one == key:
                            break
                    if len(group) > 1 or key in set(self._children(key)):
                        for one in group:
                            self._component[one] = index[key]

    def _children(self, key: Key) -> Iterator[Key]:
        for nodes in self.nodes(key):
            for node in nodes:
                if isinstance(node, Objects):
                    plan = self.objects(node)
                    yield from (one.key for one in plan.members)
                    yield from (other for _, other in plan.others)
                elif isinstance(node, Arrays):
                    array = self.arrays(node)
                    yield from array.first
                    yield array.rest
                    for chosen in itertools.product((False, True), repeat=len(array.counted)):
                        if array.counted:
                            for i in range(len(array.first) + 1):
                                yield array.counted_item(i, chosen)
