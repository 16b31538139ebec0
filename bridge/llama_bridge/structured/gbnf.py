"""Reads GBNF as llama.cpp's ``src/llama-grammar.cpp`` does, and refuses what would hang or end the process there.

llama.cpp itself overflows its stack on deep parentheses, takes a repetition above 2,000 for an endless one, misses left
recursion behind a rule that is empty only through other rules, walks some grammars in exponential time, and aborts on a
grammar that leads nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from ..checks import check_text, shown
from ..errors import InvalidInput
from .charset import ANY, NOTHING, CharSet, chars, span

__all__ = ["Program", "Token", "check_grammar", "read_grammar"]

MAX_TEXT = 4 << 20
MAX_RULES = 100_000
MAX_ELEMENTS = 1_000_000
MAX_NESTING = 50
MAX_REPETITION = 2000
"""llama.cpp's own number: above it a repetition has no end there."""
MAX_EMPTY_REPETITION = 8
"""For what may be empty: above it llama.cpp needs seconds for each character."""
MAX_CHAIN = 2000
MAX_PATHS = 20_000
MAX_WALK = 5_000_000


@dataclass(frozen=True)
class Token:
    """An element that stands for a token of the vocabulary, ``<[123]>`` or ``<|name|>``, or for any other one."""

    text: str
    negated: bool


Element = CharSet | int | Token
"""A character, the number of a rule, or a token."""

Sequence_ = tuple[Element, ...]


@dataclass(frozen=True)
class Program:
    """A grammar in llama.cpp's form: alternatives of elements, with repetitions written out as rules.

    Attributes:
        names: of each rule; those made for groups and repetitions have a ``_``.
        rules: for each rule its alternatives.
        root: number of the first rule.
        has_tokens: whether some elements are tokens.
    """

    names: tuple[str, ...]
    rules: tuple[tuple[Sequence_, ...], ...]
    root: int
    has_tokens: bool


def check_grammar(text: str, root: str = "root") -> None:
    """Check a GBNF text before llama.cpp sees it.

    Raises:
        InvalidInput: it is no GBNF, has no rule named ``root``, an undefined rule, left recursion or a part that never
            ends, or is too large, too deep or too ambiguous. Names the line.
    """
    read_grammar(check_text("grammar", text), root)


@lru_cache(8)
def read_grammar(text: str, root: str = "root") -> Program:
    """The grammar, checked as :func:`check_grammar` does."""
    if len(text.encode()) > MAX_TEXT:
        raise InvalidInput(f"grammar is larger than {MAX_TEXT} bytes: make it smaller")
    reader = _Reader(text)
    program = reader.program(root)
    _check_ends(program)
    empty = _closure(program, lambda _: False)
    for name, part in reader.repeated:
        if all(one in empty for one in part):
            raise InvalidInput(
                f"grammar: the rule {name!r} repeats something that may be empty more than {MAX_EMPTY_REPETITION} times: "
                "leave the empty text out of it"
            )
    _check_left(program, empty)
    return program


_NAME = re.compile(r"[a-zA-Z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_BOUNDS = re.compile(r"\{SP([0-9]+)SP(?:(,)SP(?:([0-9]+)SP)?)?\}".replace("SP", r"[ \t]*"))
_NESTED_BOUNDS = re.compile(
    r"\{SP([0-9]+)SP(?:(,)SP(?:([0-9]+)SP)?)?\}".replace("SP", r"[ \t\r\n]*")
)
_TOKEN = re.compile(r"!?<(?:\[[0-9]{1,10}\]|[^\[>\x00][^>\x00]*)>")
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX = {"x": 2, "u": 4, "U": 8}
_ENDLESS = -1


class _Reader:
    """One text, read once. Numbers of rules are given in the same order as there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.numbers: dict[str, int] = {}
        self.rules: dict[int, tuple[Sequence_, ...]] = {}
        self.elements = 0
        self.has_tokens = False
        self._characters: dict[str, CharSet] = {}
        self.repeated: list[tuple[str, Sequence_]] = []

    def program(self, root: str) -> Program:
        if "\0" in self.text:
            raise InvalidInput("grammar contains a NUL character")
        self.space(True)
        while self.pos < len(self.text):
            self.rule()
        if self.numbers.get(root) not in self.rules:
            raise InvalidInput(
                f"grammar has no rule {shown(root)}: add one, it is where a text begins"
            )
        names = list(self.numbers)
        for number, name in enumerate(names):
            if number not in self.rules:
                raise InvalidInput(f"grammar uses the rule {shown(name)}, which it does not define")
        rules = tuple(self.rules[number] for number in range(len(names)))
        return Program(tuple(names), rules, self.numbers[root], self.has_tokens)

    def fail(self, why: str) -> NoReturn:
        line = self.text.count("\n", 0, self.pos) + 1
        column = self.pos - self.text.rfind("\n", 0, self.pos)
        raise InvalidInput(f"grammar, line {line}, column {column}: {why}")

    def space(self, lines: bool) -> None:
        match = (_SPACE_AND_LINES if lines else _SPACE).match(self.text, self.pos)
        assert match
        self.pos = match.end()

    def peek(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def number(self, name: str) -> int:
        number = self.numbers.setdefault(name, len(self.numbers))
        if number >= MAX_RULES:
            self.fail(f"more than {MAX_RULES} rules, repetitions counted: make it smaller")
        return number

    def made(self, name: str) -> int:
        return self.number(f"{name}_{len(self.numbers)}")

    def add(self, number: int, alternatives: tuple[Sequence_, ...]) -> None:
        self.elements += sum(map(len, alternatives)) + len(alternatives)
        if self.elements > MAX_ELEMENTS:
            self.fail(f"more than {MAX_ELEMENTS} elements, repetitions counted: make it smaller")
        self.rules[number] = alternatives

    def rule(self) -> None:
        match = _NAME.match(self.text, self.pos)
        if not match:
            self.fail("a rule's name was expected: letters, digits and '-'")
        name = match[0]
        start, self.pos = self.pos, match.end()
        self.space(False)
        number = self.number(name)
        if number in self.rules:
            self.pos = start
            self.fail(f"the rule {name!r} is defined twice")
        if not self.text.startswith("::=", self.pos):
            self.fail("'::=' was expected")
        self.pos += 3
        self.space(True)
        self.alternatives(name, number, 0)
        if self.text.startswith("\r\n", self.pos):
            self.pos += 2
        elif self.peek() in ("\r", "\n"):
            self.pos += 1
        elif self.pos < len(self.text):
            self.fail("the end of the line was expected")
        self.space(True)

    def alternatives(self, name: str, number: int, depth: int) -> None:
        if depth > MAX_NESTING:
            self.fail(f"parentheses more than {MAX_NESTING} deep: use rules instead")
        found = [self.sequence(name, depth)]
        while self.peek() == "|":
            self.pos += 1
            self.space(True)
            found.append(self.sequence(name, depth))
        self.add(number, tuple(found))

    def sequence(self, name: str, depth: int) -> Sequence_:
        elements: list[Element] = []
        last = 0
        weight = 1  # as llama.cpp counts how much a repetition multiplies
        nested = depth > 0
        while c := self.peek():
            if c in "*+?{":
                least, most = self.bounds(nested)
                if last == len(elements):
                    self.fail("there is nothing to repeat")
                weight = self.repeat(name, elements, last, weight, least, most)
                continue
            if c in "|)\r\n":
                break
            last, weight = len(elements), 1
            if c == '"':
                elements += self.quoted()
            elif c == "[":
                elements.append(self.bracket())
            elif c in "<!":
                elements.append(self.token())
            elif c == ".":
                self.pos += 1
                elements.append(_VISIBLE)
            elif c == "(":
                before = len(self.numbers)
                self.pos += 1
                self.space(True)
                inner = self.made(name)
                self.alternatives(name, inner, depth + 1)
                weight = max(1, len(self.numbers) - before)
                elements.append(inner)
                if self.peek() != ")":
                    self.fail("')' was expected")
                self.pos += 1
            elif match := _NAME.match(self.text, self.pos):
                self.pos = match.end()
                elements.append(self.number(match[0]))
            else:
                break
            self.space(nested)
            if len(elements) > MAX_ELEMENTS:
                self.fail(f"more than {MAX_ELEMENTS} elements: make it smaller")
        return tuple(elements)

    def bounds(self, nested: bool) -> tuple[int, int]:
        c = self.peek()
        if c == "{":
            match = (_NESTED_BOUNDS if nested else _BOUNDS).match(self.text, self.pos)
            if not match:
                self.fail("a repetition like {2}, {2,} or {2,5} was expected")
            least_text, comma, most_text = match.groups()
            if len(least_text) > 9 or len(most_text or "") > 9:
                self.fail(f"more than {MAX_REPETITION} repetitions")
            least = int(least_text)
            most = int(most_text) if most_text else (_ENDLESS if comma else least)
            if max(least, most) > MAX_REPETITION:
                self.fail(f"more than {MAX_REPETITION} repetitions, which llama.cpp does not count")
            if most != _ENDLESS and most < least:
                self.fail("a repetition with its bounds the wrong way round")
            self.pos = match.end()
        else:
            least, most = {"*": (0, _ENDLESS), "+": (1, _ENDLESS), "?": (0, 1)}[c]
            self.pos += 1
        self.space(nested)
        return least, most

    def repeat(
        self, name: str, elements: list[Element], last: int, weight: int, least: int, most: int
    ) -> int:
        total = most if most > 0 else max(least, 1)
        if weight * total > MAX_REPETITION:
            self.fail(f"repetitions of repetitions make more than {MAX_REPETITION} rules")
        part = tuple(elements[last:])
        if max(least, most) > MAX_EMPTY_REPETITION and all(isinstance(e, int) for e in part):
            self.repeated.append((name, part))
        self.elements += len(part) * least
        if self.elements > MAX_ELEMENTS:
            self.fail(f"more than {MAX_ELEMENTS} elements, repetitions counted: make it smaller")
        del elements[last:]
        elements.extend(part * least)
        if most == _ENDLESS:
            number = self.made(name)
            self.add(number, ((*part, number), ()))
            elements.append(number)
        elif most > least:
            number = self.made(name)
            self.add(number, (part, ()))
            for _ in range(most - least - 1):
                previous, number = number, self.made(name)
                self.add(number, ((*part, previous), ()))
            elements.append(number)
        return weight * total

    def quoted(self) -> list[Element]:
        self.pos += 1
        found: list[Element] = []
        while (c := self.peek()) != '"':
            if not c:
                self.fail("a text without its closing '\"'")
            if c == "\\":
                found.append(self.existing(span(code := self.escape(), code)))
            else:
                match = _PLAIN.match(self.text, self.pos)
                assert match
                self.pos = match.end()
                found += [self.character(c) for c in match[0]]
        self.pos += 1
        return found

    def character(self, c: str) -> CharSet:
        known = self._characters.get(c)
        if known is None:
            known = self._characters[c] = chars(c)
        return known

    def escape(self) -> int:
        kind = self.text[self.pos + 1 : self.pos + 2]
        if kind in _HEX:
            digits = self.text[self.pos + 2 : self.pos + 2 + _HEX[kind]]
            if not re.fullmatch(f"[0-9a-fA-F]{{{_HEX[kind]}}}", digits):
                self.fail(f"{_HEX[kind]} hexadecimal digits were expected after '\\{kind}'")
            self.pos += 2 + _HEX[kind]
            return int(digits, 16)
        if not kind or kind not in _ESCAPES:
            self.fail(f"unknown escape '\\{kind}'")
        self.pos += 2
        return ord(_ESCAPES[kind])

    def class_character(self) -> int:
        c = self.peek()
        if c == "\\":
            return self.escape()
        if not c:
            self.fail("a '[' without its ']'")
        self.pos += 1
        return ord(c)

    def bracket(self) -> CharSet:
        start = self.pos
        self.pos += 1
        negated = self.peek() == "^"
        self.pos += negated
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]":
            low = high = self.class_character()
            if self.peek() == "-" and self.text[self.pos + 1 : self.pos + 2] != "]":
                self.pos += 1
                high = self.class_character()
                if high < low:
                    self.fail("a range with its ends the wrong way round")
            ranges.append((low, high))
        if not ranges:
            self.pos = start
            self.fail("an empty '[]', which llama.cpp takes for no character at all")
        self.pos += 1
        found = NOTHING | CharSet(tuple((a, min(b, 0x10FFFF)) for a, b in ranges if a <= 0x10FFFF))
        return self.existing(~found if negated else found)

    def existing(self, found: CharSet) -> CharSet:
        """Without NUL, which llama.cpp never matches: it marks the end of a token there."""
        shown = found - _NUL if 0 in found else found
        if not shown:
            self.fail("no such character can come: NUL and surrogates are none")
        return shown

    def token(self) -> Token:
        match = _TOKEN.match(self.text, self.pos)
        if not match:
            self.fail("a token like <[123]> or <name> was expected")
        self.pos = match.end()
        self.has_tokens = True
        text = match[0]
        if text.lstrip("!").startswith("<[") and int(text.strip("!<[]>")) > 0x7FFFFFFF:
            self.fail("no token has such a number")
        return Token(text.removeprefix("!"), text.startswith("!"))


_NUL = chars("\0")
_VISIBLE = ANY - _NUL


def _check_ends(program: Program) -> None:
    """Refuse a rule that no finite text fulfils: a text that gets there could neither go on nor end."""
    ends = _closure(program, lambda e: isinstance(e, Token) or bool(e))
    if len(ends) == len(program.rules):
        return
    seen = {program.root}
    todo = [program.root]
    while todo:
        number = todo.pop()
        if number not in ends:
            raise InvalidInput(
                f"grammar: no text fulfils the rule {_name(program, number)!r}: it never ends, or needs a character "
                "that does not exist"
            )
        for alternative in program.rules[number]:
            for element in alternative:
                if isinstance(element, int) and element not in seen:
                    seen.add(element)
                    todo.append(element)


def _name(program: Program, number: int) -> str:
    return program.names[number].partition("_")[0]


def _closure(program: Program, terminal: Callable[[CharSet | Token], bool]) -> set[int]:
    """Rules with an alternative all of whose elements are in the closure, or terminals that pass."""
    waiting: dict[int, list[list[int]]] = {}
    found: set[int] = set()
    todo: list[int] = []
    for number, alternatives in enumerate(program.rules):
        for alternative in alternatives:
            if not all(isinstance(e, int) or terminal(e) for e in alternative):
                continue
            needed = {e for e in alternative if isinstance(e, int)}
            if not needed and number not in found:
                found.add(number)
                todo.append(number)
            entry = [len(needed), number]
            for one in needed:
                waiting.setdefault(one, []).append(entry)
    while todo:
        for entry in waiting.get(todo.pop(), ()):
            entry[0] -= 1
            if entry[0] == 0 and entry[1] not in found:
                found.add(entry[1])
                todo.append(entry[1])
    return found


def _lefts(program: Program, empty: set[int]) -> list[list[int]]:
    """For each rule, the rules with which its texts may begin; one that occurs twice is there twice."""
    lefts: list[list[int]] = []
    for alternatives in program.rules:
        found: list[int] = []
        for alternative in alternatives:
            for element in alternative:
                if not isinstance(element, int):
                    break
                found.append(element)
                if element not in empty:
                    break
        lefts.append(found)
    return lefts


def _check_left(program: Program, empty: set[int]) -> None:
    """Refuse left recursion, and rules whose beginnings llama.cpp would follow for ever, or too deep."""
    lefts = _lefts(program, empty)
    paths: dict[int, int] = {}
    chains: dict[int, int] = {}
    open_rules: set[int] = set()
    walk = 0
    for start in range(len(lefts)):
        if start in paths:
            continue
        todo = [(start, False)]
        while todo:
            number, done = todo.pop()
            if done:
                open_rules.discard(number)
                paths[number] = 1 + sum(paths[one] for one in lefts[number])
                chains[number] = 1 + max((chains[one] for one in lefts[number]), default=0)
                if paths[number] > MAX_PATHS:
                    raise InvalidInput(
                        f"grammar: the rule {_name(program, number)!r} can begin in more than {MAX_PATHS} ways: "
                        "make it less ambiguous"
                    )
                if chains[number] > MAX_CHAIN:
                    raise InvalidInput(
                        f"grammar: more than {MAX_CHAIN} rules begin with each other, from "
                        f"{_name(program, number)!r} on: make them fewer"
                    )
                continue
            if number in paths:
                continue
            open_rules.add(number)
            todo.append((number, True))
            for one in lefts[number]:
                if one in open_rules:
                    raise InvalidInput(
                        f"grammar: the rule {_name(program, one)!r} can begin with itself: put something before it"
                    )
                if one not in paths:
                    todo.append((one, False))
        walk += paths[start]
        if walk > MAX_WALK:
            raise InvalidInput(
                "grammar: llama.cpp would take too long to check it: make it smaller"
            )
