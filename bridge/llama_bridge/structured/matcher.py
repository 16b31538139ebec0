"""Follows a text through a grammar: what may come next, and what must."""

from __future__ import annotations

import heapq
from functools import lru_cache
from itertools import count

from ..errors import InvalidInput
from .charset import CharSet
from .gbnf import Program, read_grammar

__all__ = ["Matcher"]

MAX_WIDTH = 2000
MAX_WORK = 2_000_000
"""Comparisons for one character: llama.cpp compares each way with each other one."""
MAX_STACKS = 200_000
MAX_FORCED = 500


class Matcher:
    """A place in a grammar, moved on by the text that was written.

    Args:
        grammar: GBNF. Reading it takes a moment the first time (1 ms per 2 kB); the last eight are kept.
        root: the rule that a text begins with.

    Raises:
        InvalidInput: as :func:`~.gbnf.check_grammar`; or it has elements that stand for tokens, which no text shows.
    """

    __slots__ = ("_paths", "_state")

    def __init__(self, grammar: str, root: str = "root") -> None:
        self._paths = _paths(grammar, root)
        if self._paths.crowded:
            _paths.cache_clear()
            self._paths = _paths(grammar, root)
        self._state = self._paths.start

    def accept(self, text: str) -> bool:
        """Move on by the text; or return False, and stay, if it does not fit here.

        Raises:
            InvalidInput: the grammar reads it in too many ways; it stays where it was.
        """
        state, states = self._state, self._paths.states
        for c in text:
            number = state.after.get(c)
            if number is None:
                number = self._paths.step(state, c)
            if number == _NOWHERE:
                return False
            state = states[number]
        self._state = state
        return True

    def forced(self) -> str:
        """The one text that can come next; "" where there is a choice, and also where the text may or must end."""
        state = self._state
        if state.forced is None:
            self._paths.find_forced(state)
            assert state.forced is not None
        return state.forced

    def allowed(self) -> tuple[tuple[int, int], ...]:
        """The code points that can come next, as ranges; none where the text must end."""
        found = CharSet(())
        for chars, _ in self._state.tops:
            found = found | chars
        return found.ranges

    def completion(self) -> str:
        """A shortest text that completes this one; "" where it may end."""
        return self._paths.completion(self._state)

    @property
    def may_end(self) -> bool:
        """Whether the text is complete."""
        return self._state.may_end

    @property
    def must_end(self) -> bool:
        """Whether the text is complete and nothing can follow."""
        return self._state.may_end and not self._state.tops

    @property
    def width(self) -> int:
        """In how many ways the grammar reads the text so far: what each token costs in llama.cpp grows with it."""
        return len(self._state.tops) + self._state.may_end

    def copy(self) -> Matcher:
        """Another one at the same place."""
        other = object.__new__(Matcher)
        other._paths, other._state = self._paths, self._state
        return other


class _State:
    """All the stacks with which the grammar can have read the text so far.

    States know each other by number: freeing a chain of references takes from the stack of C, which is small in a page.
    """

    __slots__ = ("after", "forced", "may_end", "tops")

    def __init__(self, tops: tuple[tuple[CharSet, int], ...], may_end: bool) -> None:
        self.tops = tops  # what each stack takes next, and the stack after that
        self.may_end = may_end
        self.after: dict[str, int] = {}
        self.forced: str | None = None


_NOWHERE = 0
"""The state after what no text goes on with."""
_END = 0
"""The empty stack."""


@lru_cache(8)
def _paths(grammar: str, root: str) -> _Paths:
    program = read_grammar(grammar, root)
    if program.has_tokens:
        raise InvalidInput(
            "grammar has elements that stand for tokens: a Matcher follows text only"
        )
    return _Paths(program)


class _Paths:
    """The states of one grammar that texts have reached so far.

    A stack is a number: of the place where it goes on, and of the stack below. A place is an element of an alternative.
    """

    def __init__(self, program: Program) -> None:
        self._elements: list[CharSet | int] = []
        self._next: list[int] = []  # the place behind each place; -1 at the end of an alternative
        # For each rule, where its alternatives begin; -1 for an empty one.
        self._begins: list[tuple[int, ...]] = []
        for alternatives in program.rules:
            begins: list[int] = []
            for alternative in alternatives:
                begins.append(len(self._elements) if alternative else -1)
                for element in alternative:
                    assert isinstance(element, CharSet | int)
                    self._elements.append(element)
                    self._next.append(len(self._elements))
                if alternative:
                    self._next[-1] = -1
            self._begins.append(tuple(begins))
        self._root = program.root
        self._program = program
        self._lengths: list[
            int
        ] = []  # of the shortest text from each place to the end of its alternative
        # Several threads may walk here at once, and an interrupt may come between any two lines: so a number is never given
        # twice, what it stands for is there before anybody can find it, and who comes second takes the first one's.
        self._fresh = count(1)
        self._numbers: dict[tuple[int, int], int] = {(-1, -1): _END}
        self._stacks: dict[int, tuple[int, int]] = {_END: (-1, -1)}
        self._closures: dict[int, frozenset[int]] = {}
        self._known: dict[frozenset[int], int] = {}
        self.states = {_NOWHERE: _State((), False)}
        self.start = self.states[self._from_stacks(self._first())]

    @property
    def crowded(self) -> bool:
        """Whether it remembers so much that a new text had better begin afresh."""
        return len(self._stacks) > MAX_STACKS

    def _stack(self, place: int, below: int) -> int:
        if place < 0:
            return below
        number = self._numbers.get((place, below))
        if number is None:
            number = next(self._fresh)
            self._stacks[number] = place, below
            number = self._numbers.setdefault((place, below), number)
        return number

    def _first(self) -> frozenset[int]:
        found: set[int] = set()
        for begin in self._begins[self._root]:
            found |= self._closure(self._stack(begin, _END))
        return frozenset(found)

    def _closure(self, stack: int) -> frozenset[int]:
        """The stacks, all with a character on top, or empty, that a stack can become without reading anything."""
        known = self._closures.get(stack)
        if known is not None:
            return known
        found: set[int] = set()
        seen = {stack}
        todo = [stack]
        while todo:
            one = todo.pop()
            place, below = self._stacks[one]
            element = self._elements[place] if one != _END else None
            if not isinstance(element, int):
                found.add(one)
                if len(found) > MAX_WIDTH:
                    raise _too_wide()
                continue
            rest = self._stack(self._next[place], below)
            for begin in self._begins[element]:
                following = self._stack(begin, rest)
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        closed = self._closures[stack] = frozenset(found)
        return closed

    def _from_stacks(self, stacks: frozenset[int]) -> int:
        number = self._known.get(stacks)
        if number is None:
            tops: list[tuple[CharSet, int]] = []
            for stack in sorted(stacks):
                if stack != _END:
                    place, below = self._stacks[stack]
                    element = self._elements[place]
                    assert isinstance(element, CharSet)
                    tops.append((element, self._stack(self._next[place], below)))
            number = next(self._fresh)
            self.states[number] = _State(tuple(tops), _END in stacks)
            number = self._known.setdefault(stacks, number)
        return number

    def step(self, state: _State, c: str) -> int:
        """The number of the state after one more character, kept for the next time."""
        code = ord(c)
        found: set[int] = set()
        ways = 0
        for chars, stack in state.tops:
            if code in chars:
                closed = self._closure(stack)
                ways += len(closed)
                found |= closed
        if len(found) > MAX_WIDTH or ways * len(found) > MAX_WORK:
            raise _too_wide()
        following = self._from_stacks(frozenset(found)) if found else _NOWHERE
        state.after[c] = following
        return following

    def find_forced(self, state: _State) -> None:
        """Compute what must come next, for this state and those on the way."""
        way: list[tuple[_State, str]] = []
        here = state
        rest = ""
        while len(way) < MAX_FORCED:
            if here.forced is not None:
                rest = here.forced
                break
            c = _only(here)
            if c is None:
                here.forced = ""
                break
            way.append((here, c))
            following = here.after.get(c)
            here = self.states[following if following is not None else self.step(here, c)]
        for one, c in reversed(way):
            rest = c + rest
            one.forced = rest[:MAX_FORCED]

    def completion(self, state: _State) -> str:
        """A shortest text from a state to an end."""
        if state.may_end:
            return ""
        if not self._lengths:
            self._lengths = self._shortest()
        lengths: dict[int, int] = {_END: 0}
        written: list[str] = []
        chars, stack = min(state.tops, key=lambda top: self._length(top[1], lengths))
        while True:
            low, high = chars.ranges[0]
            written.append(chr(min(max(low, ord("0")), high)))
            if stack == _END:
                return "".join(written)
            below = min(self._closure(stack), key=lambda one: self._length(one, lengths))
            if below == _END:
                return "".join(written)
            place, rest = self._stacks[below]
            element = self._elements[place]
            assert isinstance(element, CharSet)
            chars, stack = element, self._stack(self._next[place], rest)

    def _length(self, stack: int, known: dict[int, int]) -> int:
        """Of the shortest text that a stack stands for."""
        way: list[int] = []
        while stack not in known:
            way.append(stack)
            stack = self._stacks[stack][1]
        length = known[stack]
        for one in reversed(way):
            length += self._lengths[self._stacks[one][0]]
            known[one] = length
        return length

    def _shortest(self) -> list[int]:
        """For each place, the length of a shortest text from there to the end of its alternative.

        Rules in the order of their lengths: the shortest first, then those that need only such ones (Knuth 1977).
        """
        rules: dict[int, int] = {}
        users: dict[int, list[tuple[int, int]]] = {}
        open_parts: dict[tuple[int, int], tuple[int, int]] = {}
        todo: list[tuple[int, int]] = []
        for number, alternatives in enumerate(self._program.rules):
            for i, alternative in enumerate(alternatives):
                needed = [one for one in alternative if isinstance(one, int)]
                length = len(alternative) - len(needed)
                open_parts[number, i] = len(needed), length
                for one in needed:
                    users.setdefault(one, []).append((number, i))
                if not needed:
                    heapq.heappush(todo, (length, number))
        while todo:
            length, number = heapq.heappop(todo)
            if number in rules:
                continue
            rules[number] = length
            for user in users.get(number, ()):
                left, sum_ = open_parts[user]
                open_parts[user] = left - 1, sum_ + length
                if left == 1:
                    heapq.heappush(todo, (sum_ + length, user[0]))
        lengths = [0] * len(self._elements)
        for place in reversed(range(len(self._elements))):
            element = self._elements[place]
            # What no text fulfils is not reached from the root; any length will do.
            one = rules.get(element, 0) if isinstance(element, int) else 1
            following = self._next[place]
            lengths[place] = one + (lengths[following] if following >= 0 else 0)
        return lengths


def _only(state: _State) -> str | None:
    """The one character that can come next."""
    if state.may_end or not state.tops:
        return None
    only: int | None = None
    for chars, _ in state.tops:
        low, high = chars.ranges[0]
        if low != high or len(chars.ranges) > 1 or only not in (None, low):
            return None
        only = low
    return None if only is None else chr(only)


def _too_wide() -> InvalidInput:
    return InvalidInput(
        "grammar: it reads the text so far in too many ways at once: make it less ambiguous"
    )
