"""Regular languages of strings: expressions over code points, and the automaton of one.

Expressions may be intersected and complemented. The automaton is made by derivatives (Brzozowski 1964, Owens, Reppy
and Turon 2009): a state is the expression of what may still follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .charset import ANY, CharSet, chars

__all__ = [
    "EMPTY",
    "EVERYTHING",
    "NEVER",
    "And",
    "Automaton",
    "Cat",
    "Language",
    "Not",
    "Or",
    "Rep",
    "Set",
    "TooLarge",
    "automaton",
    "literal",
    "matches",
    "union",
    "word_automaton",
    "words",
]

MAX_STATES = 4000
MAX_NODES = 100_000
MAX_PARTS = 4_000_000
"""Parts of all expressions together, which is what the work is: about three seconds."""


class TooLarge(Exception):
    """The automaton of an expression would have too many states."""


class Language:
    """A set of strings."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Set(Language):
    """One character of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Cat(Language):
    """One after the other; of nothing: the empty string."""

    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Or(Language):
    """Any of them; of nothing: no string at all."""

    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class And(Language):
    """All of them at once."""

    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Not(Language):
    """All strings but these."""

    part: Language


@dataclass(frozen=True, slots=True)
class Rep(Language):
    """The part, ``least`` to ``most`` times; None for no bound."""

    part: Language
    least: int
    most: int | None


EMPTY = Cat(())
NEVER = Or(())
EVERYTHING = Rep(Set(ANY), 0, None)


def literal(text: str) -> Language:
    """That one string."""
    return Cat(tuple(Set(chars(c)) for c in text))


def union(parts: Iterable[Language]) -> Language:
    """Any of them."""
    several = tuple(parts)
    return several[0] if len(several) == 1 else Or(several)


class _Trie(dict[str, "_Trie"]):
    """Characters, and what follows each; "" for the end of a word."""


def words(texts: Iterable[str]) -> Language:
    """Those strings: shared beginnings are shared, so that thousands of them stay fast."""
    root = _Trie()
    for text in texts:
        node = root
        for c in text:
            node = node.setdefault(c, _Trie())
        node[""] = _Trie()
    return _from_trie(root)


def _from_trie(root: _Trie) -> Language:
    # Without recursion: a name may be thousands of characters long.
    stack: list[tuple[_Trie, list[Language], list[str]]] = [(root, [], list(root))]
    while True:
        here, parts, left = stack[-1]
        if not left:
            stack.pop()
            if not stack:
                return union(parts)
            _, above, names = stack[-1]
            rest = union(parts)  # one way only: no level of its own, or long names nest deep
            tail = rest.parts if isinstance(rest, Cat) else (rest,)
            above.append(Cat((Set(chars(names.pop())), *tail)))
        elif left[-1] == "":
            left.pop()
            parts.append(EMPTY)
        else:
            below = here[left[-1]]
            stack.append((below, [], list(below)))


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton. State 0 is the start; from every state an end can be reached.

    Attributes:
        accepting: for each state, whether a string may end there.
        steps: for each state, pairs of characters and next state; the characters of one state are disjoint.
    """

    accepting: tuple[bool, ...]
    steps: tuple[tuple[tuple[CharSet, int], ...], ...]

    @property
    def empty(self) -> bool:
        """Whether it has no string at all."""
        return not self.accepting

    def accepts(self, text: str) -> bool:
        """Whether the text is one of its strings."""
        state = 0
        if self.empty:
            return False
        for c in text:
            for chosen, target in self.steps[state]:
                if ord(c) in chosen:
                    state = target
                    break
            else:
                return False
        return self.accepting[state]

    def some(self, most: int) -> list[str] | None:
        """All of its strings, if there are at most ``most``; otherwise None."""
        found: list[str] = []
        todo: list[tuple[int, str]] = [] if self.empty else [(0, "")]
        while todo:
            state, text = todo.pop()
            if len(text) > len(self.steps) or len(todo) > most:
                return None  # longer than there are states: endless
            if self.accepting[state]:
                found.append(text)
                if len(found) > most:
                    return None
            for chosen, target in reversed(self.steps[state]):
                if len(chosen) > most:
                    return None
                for low, high in reversed(chosen.ranges):
                    todo.extend((target, text + chr(c)) for c in range(high, low - 1, -1))
        return found


def word_automaton(texts: Iterable[str]) -> Automaton:
    """The automaton of some strings, however many; not none."""
    root = _Trie()
    for text in texts:
        node = root
        for c in text:
            node = node.setdefault(c, _Trie())
        node[""] = _Trie()
    # From the ends: what accepts the same is one state.
    order: list[_Trie] = [root]
    for node in order:
        order.extend(below for c, below in node.items() if c)
    numbers: dict[tuple[bool, tuple[tuple[str, int], ...]], int] = {}
    becomes: dict[int, int] = {}
    for node in reversed(order):
        key = ("" in node, tuple((c, becomes[id(below)]) for c, below in node.items() if c))
        becomes[id(node)] = numbers.setdefault(key, len(numbers))
    last = len(numbers) - 1
    accepting: list[bool] = []
    steps: list[tuple[tuple[CharSet, int], ...]] = []
    for ends, moves in reversed(numbers):
        by_target: dict[int, str] = {}
        for c, target in moves:
            by_target[target] = by_target.get(target, "") + c
        accepting.append(ends)
        steps.append(tuple((chars(text), last - target) for target, text in by_target.items()))
    return Automaton(tuple(accepting), tuple(steps))


def automaton(language: Language) -> Automaton:
    """The automaton of a language.

    Raises:
        TooLarge: it would have too many states.
    """
    try:
        return _automaton(language)
    except RecursionError:
        raise TooLarge from None


@lru_cache(256)
def _automaton(language: Language) -> Automaton:
    return _Derivatives(language).automaton()


def matches(language: Language, text: str) -> bool:
    """Whether the text is in the language."""
    machine = _Derivatives(language)
    state = machine.start
    for c in text:
        if "\ud800" <= c <= "\udfff":
            return False
        state = machine.after(state, machine.atom(ord(c)))
    return machine.nullable[state]


_Key = tuple[str, tuple[int, ...]]
"""What an expression is, and of which others it is made. "set": a mask. "rep": a part, least, most or -1."""
_NEVER, _EMPTY = 0, 1


class _Derivatives:
    """One expression over its own alphabet: characters that no part of it tells apart are one atom.

    Expressions are numbers, equal ones the same number; sets of atoms are bit masks.
    """

    def __init__(self, language: Language) -> None:
        sets = list(_sets(language))
        self._atoms, self._masks = _alphabet(sets)
        self._all = (1 << len(self._atoms)) - 1
        self._numbers: dict[_Key, int] = {}
        self._keys: list[_Key] = []
        self._n_parts = 0
        self.nullable: list[bool] = []
        self._splits: dict[int, tuple[int, ...]] = {}
        self._after: dict[tuple[int, int], int] = {}
        self._number(("or", ()), False)  # _NEVER
        self._number(("empty", ()), True)  # _EMPTY
        self.start = self._from(language)

    # making expressions

    def _number(self, key: _Key, nullable: bool) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
            self.nullable.append(nullable)
            self._n_parts += len(key[1])
            if number > MAX_NODES or self._n_parts > MAX_PARTS:
                raise TooLarge
        return number

    def _from(self, language: Language) -> int:
        match language:
            case Set():
                return self._set(self._masks[language.chars])
            case Cat():
                result = _EMPTY
                for part in reversed(language.parts):
                    result = self._cat(self._from(part), result)
                return result
            case Or():
                return self._or(self._from(part) for part in language.parts)
            case And():
                return self._and(self._from(part) for part in language.parts)
            case Not():
                return self._not(self._from(language.part))
            case Rep():
                most = -1 if language.most is None else language.most
                return self._rep(self._from(language.part), language.least, most)
            case _:
                raise AssertionError(language)

    def _set(self, mask: int) -> int:
        return self._number(("set", (mask,)), False) if mask else _NEVER

    def _cat(self, a: int, b: int) -> int:
        if _NEVER in (a, b):
            return _NEVER
        if a == _EMPTY:
            return b
        if b == _EMPTY:
            return a
        kind, parts = self._keys[a]
        if kind == "cat":
            return self._cat(parts[0], self._cat(parts[1], b))
        return self._number(("cat", (a, b)), self.nullable[a] and self.nullable[b])

    def _or(self, parts: Iterable[int]) -> int:
        flat: set[int] = set()
        mask = 0
        for part in parts:
            for one in self._operands(part, "or"):
                kind, inner = self._keys[one]
                if kind == "set":
                    mask |= inner[0]
                else:
                    flat.add(one)
        if mask:
            flat.add(self._set(mask))
        everything = self._everything()
        if everything in flat:
            return everything
        if len(flat) == 1:
            return flat.pop()
        ordered = tuple(sorted(flat))
        return self._number(("or", ordered), any(self.nullable[p] for p in ordered))

    def _and(self, parts: Iterable[int]) -> int:
        flat: set[int] = set()
        for part in parts:
            flat.update(self._operands(part, "and"))
        if _NEVER in flat:
            return _NEVER
        flat.discard(self._everything())
        if not flat:
            return self._everything()
        if len(flat) == 1:
            return flat.pop()
        if _EMPTY in flat:
            return _EMPTY if all(self.nullable[p] for p in flat) else _NEVER
        ordered = tuple(sorted(flat))
        return self._number(("and", ordered), all(self.nullable[p] for p in ordered))

    def _operands(self, part: int, kind: str) -> tuple[int, ...]:
        key = self._keys[part]
        return key[1] if key[0] == kind else (part,)

    def _everything(self) -> int:
        return self._number(("rep", (self._set(self._all), 0, -1)), True)

    def _not(self, part: int) -> int:
        kind, parts = self._keys[part]
        if kind == "not":
            return parts[0]
        if part == _NEVER:
            return self._everything()
        if part == self._everything():
            return _NEVER
        return self._number(("not", (part,)), not self.nullable[part])

    def _rep(self, part: int, least: int, most: int) -> int:
        if most == 0 or part == _EMPTY:
            return _EMPTY
        if part == _NEVER:
            return _EMPTY if least == 0 else _NEVER
        if (least, most) == (1, 1):
            return part
        if self.nullable[part]:
            least = 0
        return self._number(("rep", (part, least, most)), least == 0)

    # what may follow

    def atom(self, code: int) -> int:
        """The bit of a character."""
        for i, atom in enumerate(self._atoms):
            if code in atom:
                return 1 << i
        raise AssertionError(code)

    def _split(self, number: int) -> tuple[int, ...]:
        """Disjoint masks, all atoms together, so that those in one mask lead to the same expression."""
        known = self._splits.get(number)
        if known is None:
            known = self._splits[number] = tuple(self._computed_split(self._keys[number]))
        return known

    def _computed_split(self, key: _Key) -> Iterable[int]:
        kind, parts = key
        if kind == "set":
            return [mask for mask in (parts[0], self._all & ~parts[0]) if mask]
        if kind == "cat":
            if not self.nullable[parts[0]]:
                return self._split(parts[0])
            return _meet([self._split(part) for part in parts])
        if kind in ("or", "and") and parts:
            return _meet([self._split(part) for part in parts])
        if kind in ("not", "rep"):
            return self._split(parts[0])
        return (self._all,)

    def after(self, number: int, atom: int) -> int:
        """The expression of what may follow once a character of that atom was read."""
        known = self._after.get((number, atom))
        if known is None:
            known = self._after[number, atom] = self._computed_after(self._keys[number], atom)
        return known

    def _computed_after(self, key: _Key, atom: int) -> int:
        kind, parts = key
        if kind == "set":
            return _EMPTY if parts[0] & atom else _NEVER
        if kind == "cat":
            a, b = parts
            first = self._cat(self.after(a, atom), b)
            return self._or([first, self.after(b, atom)]) if self.nullable[a] else first
        if kind == "or":
            return self._or(self.after(part, atom) for part in parts)
        if kind == "and":
            return self._and(self.after(part, atom) for part in parts)
        if kind == "not":
            return self._not(self.after(parts[0], atom))
        if kind == "rep":
            part, least, most = parts
            left = most - 1 if most > 0 else most
            return self._cat(self.after(part, atom), self._rep(part, max(least - 1, 0), left))
        return _NEVER

    def automaton(self) -> Automaton:
        states = {self.start: 0}
        order = [self.start]
        moves: list[dict[int, int]] = []
        for number in order:
            by_target: dict[int, int] = {}
            for mask in self._split(number):
                target = self.after(number, mask & -mask)
                if target == _NEVER:
                    continue
                if target not in states:
                    if len(order) >= MAX_STATES:
                        raise TooLarge
                    states[target] = len(order)
                    order.append(target)
                by_target[states[target]] = by_target.get(states[target], 0) | mask
            moves.append(by_target)
        accepting = [self.nullable[number] for number in order]
        return self._trimmed(accepting, moves)

    def _trimmed(self, accepting: list[bool], moves: list[dict[int, int]]) -> Automaton:
        """Without the states from which no end can be reached."""
        before: list[list[int]] = [[] for _ in moves]
        for state, by_target in enumerate(moves):
            for target in by_target:
                before[target].append(state)
        alive = {state for state, ends in enumerate(accepting) if ends}
        todo = list(alive)
        while todo:
            for state in before[todo.pop()]:
                if state not in alive:
                    alive.add(state)
                    todo.append(state)
        if 0 not in alive:
            return Automaton((), ())
        kept = {old: new for new, old in enumerate(sorted(alive))}
        return Automaton(
            tuple(accepting[old] for old in kept),
            tuple(
                tuple(
                    (self._chars(mask), kept[target])
                    for target, mask in moves[old].items()
                    if target in kept
                )
                for old in kept
            ),
        )

    def _chars(self, mask: int) -> CharSet:
        ranges: list[tuple[int, int]] = []
        for i, atom in enumerate(self._atoms):
            if mask >> i & 1:
                ranges.extend(atom.ranges)
        whole = CharSet(())
        return whole | CharSet(tuple(sorted(ranges)))


def _meet(partitions: list[tuple[int, ...]]) -> list[int]:
    """The partition of atoms that tells apart what any of these tells apart."""
    pieces = list(partitions[0])
    for partition in partitions[1:]:
        if len(partition) == 1:
            continue
        parted: list[int] = []
        for piece in pieces:
            for mask in partition:
                if both := piece & mask:
                    parted.append(both)
                    if both == piece:
                        break
        pieces = parted
    return pieces


def _sets(language: Language) -> Iterator[CharSet]:
    todo: list[Language] = [language]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        match one:
            case Set():
                yield one.chars
            case Cat() | Or() | And():
                todo.extend(one.parts)
            case Not() | Rep():
                todo.append(one.part)
            case _:
                raise AssertionError(one)


def _alphabet(sets: list[CharSet]) -> tuple[list[CharSet], dict[CharSet, int]]:
    """Atoms: characters that are in the same sets; and for each set its mask of atoms."""
    distinct = list(dict.fromkeys(sets))
    opened: dict[int, int] = {}
    for number, one in enumerate(distinct):
        bit = 1 << number
        for low, high in one.ranges:
            opened[low] = opened.get(low, 0) ^ bit
            opened[high + 1] = opened.get(high + 1, 0) ^ bit
    for low, high in ANY.ranges:  # an edge here, too, so that no atom holds a surrogate
        opened.setdefault(low, 0)
        opened.setdefault(high + 1, 0)
    edges = sorted(opened)
    grouped: dict[int, list[tuple[int, int]]] = {}
    signature = 0
    for edge, following in itertools.pairwise(edges):
        signature ^= opened[edge]
        if edge in ANY:
            grouped.setdefault(signature, []).append((edge, following - 1))
    atoms = [CharSet(()) | CharSet(tuple(ranges)) for ranges in grouped.values()]
    masks: dict[CharSet, int] = {}
    for number, one in enumerate(distinct):
        masks[one] = sum(1 << i for i, sign in enumerate(grouped) if sign >> number & 1)
    return atoms, masks
