"""Writes GBNF: rules, texts, characters, repetitions, automata. Equal rules are written once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .charset import ANY, CharSet, chars, span
from .language import Automaton

__all__ = ["MAX_RULES", "Rules", "TooMany", "json_characters", "one_of", "quoted"]

MAX_RULES = 30_000
MAX_TEXT = 3_000_000
EXACT = 16
UP_TO = 48
"""Above it a repetition is made of blocks: llama.cpp writes one rule for each time."""


class TooMany(Exception):
    """More rules than a grammar may have."""


class Rules:
    """The rules of one grammar."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}
        self._size = 0

    def add(self, body: str, hint: str = "r") -> str:
        """The name of a rule with that body."""
        name = self._names.get(body)
        if name is None:
            name = self.name(hint)
            self._names[body] = name
            self.define(name, body)
        return name

    def name(self, hint: str = "r") -> str:
        """A new name, for a rule that is defined later: one that refers to itself."""
        if len(self._bodies) >= MAX_RULES:
            raise TooMany
        name = f"{hint}{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """Write a rule."""
        self._bodies[name] = body
        self._size += len(body) + len(name) + 6
        if self._size > MAX_TEXT:
            raise TooMany

    def text(self, root: str) -> str:
        """The whole grammar; without rules that are not used."""
        lines = [f"root ::= {root}"]
        seen: set[str] = set()
        todo = [root]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            lines.append(f"{name} ::= {self._bodies[name]}")
            todo.extend(
                reversed([one for one in _words(self._bodies[name]) if one in self._bodies])
            )
        return "\n".join(lines) + "\n"

    def choice(self, alternatives: Iterable[str], hint: str = "r") -> str:
        """A rule for any of them."""
        distinct = list(dict.fromkeys(alternatives))
        return self.add(" | ".join(distinct), hint)

    def repeated(self, one: str, least: int, most: int | None) -> str:
        """An element so many times; "" for never. ``one`` must be one element, and not be empty itself."""
        parts: list[str] = []
        if most is None:
            if least <= EXACT:
                return one + {0: "*", 1: "+"}.get(least, f"{{{least},}}")
            return f"{self._exactly(one, least)} {one}*"
        if most <= EXACT:
            return (
                "" if most == 0 else one if least == most == 1 else f"{one}{_bounds(least, most)}"
            )
        if least:
            parts.append(self._exactly(one, least))
        if most > least:
            parts.append(self._up_to(one, most - least))
        return " ".join(parts)

    def _exactly(self, one: str, count: int) -> str:
        if count <= EXACT:
            return one if count == 1 else f"{one}{{{count}}}"
        half = self._exactly(one, count // 2)
        if " " in half or "{" in half:
            half = self.add(half, "n")
        return f"{half} {half}" + f" {one}" * (count % 2)

    def _up_to(self, one: str, count: int) -> str:
        """From none to ``count``. Blocks first, then single ones: a text is read in two ways at most."""
        if count <= UP_TO:
            return f"{one}{_bounds(0, count)}"
        block = math.isqrt(count)
        whole = self.add(self._exactly(one, block), "n")
        few = self.add(f"{one}{_bounds(0, block - 1)}", "n")
        left = count - count // block * block
        name = self.add(f"{one}{_bounds(0, left)}", "n") if left else '""'
        for _ in range(count // block):
            name = self.add(f"{whole} {name} | {few}", "n")
        return name

    def automaton(self, machine: Automaton, close: str, in_string: bool, hint: str = "s") -> str:
        """A rule for the texts of an automaton, ``close`` after each."""
        arrivals = [0] * len(machine.steps)
        arrivals[0] = 2
        for steps in machine.steps:
            for _, target in steps:
                arrivals[target] += 1
        bodies: list[list[tuple[list[str], int]]] = []
        for steps in machine.steps:
            bodies.append(
                [
                    (piece, target)
                    for chosen, target in steps
                    for piece in (json_characters(chosen) if in_string else [[_class(chosen)]])
                ]
            )
        names: dict[int, str] = {}
        order: list[int] = [0]
        names[0] = self.name(hint)

        def through(state: int) -> list[str]:
            """What follows from a state on: without a rule of its own where there is one way only."""
            tokens: list[str] = []
            while True:
                if not bodies[state]:
                    return [*tokens, close] if close else tokens
                if arrivals[state] > 1 or len(bodies[state]) > 1 or machine.accepting[state]:
                    break
                piece, state = bodies[state][0]
                tokens += piece
            if state not in names:
                names[state] = self.name(hint)
                order.append(state)
            return [*tokens, names[state]]

        for state in order:
            alternatives = [_joined([*piece, *through(target)]) for piece, target in bodies[state]]
            if machine.accepting[state]:
                alternatives.append(close or '""')
            self.define(names[state], " | ".join(alternatives))
        return names[0]


def _words(body: str) -> list[str]:
    """What may be names of rules in a body: more than they are, for texts hold words, too."""
    found: list[str] = []
    word = ""
    for c in body + " ":
        if c.isascii() and (c.isalnum() or c == "-"):
            word += c
        elif word:
            found.append(word)
            word = ""
    return found


def _bounds(least: int, most: int) -> str:
    if (least, most) == (0, 1):
        return "?"
    return f"{{{least}}}" if least == most else f"{{{least},{most}}}"


def _joined(tokens: Sequence[str]) -> str:
    """Elements one after the other, neighbouring texts as one."""
    merged: list[str] = []
    for token in tokens:
        if merged and token[0] == '"' and merged[-1][0] == '"':
            merged[-1] = merged[-1][:-1] + token[1:]
        else:
            merged.append(token)
    return " ".join(merged) if merged else '""'


_TEXT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """A text as GBNF."""
    return '"' + "".join(_TEXT_ESCAPES.get(c) or _shown(ord(c)) for c in text) + '"'


def _shown(code: int) -> str:
    if 0x20 <= code < 0x7F:
        return chr(code)
    if code < 0x80:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _class(found: CharSet) -> str:
    if len(found) == 1:
        return quoted(chr(found.ranges[0][0]))
    parts: list[str] = []
    for low, high in found.ranges:
        parts.append(_in_class(low))
        if high > low:
            parts.append(("-" if high > low + 1 else "") + _in_class(high))
    return f"[{''.join(parts)}]"


def _in_class(code: int) -> str:
    c = chr(code)
    if c in "\\[]-":
        return "\\" + c
    if c == "^":
        return "\\x5E"
    return _shown(code)


_CONTROL = span(0, 0x1F)
_RAW = ANY - (_CONTROL | chars('"\\'))
_SHORT = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_SHORT_SET = chars("".join(_SHORT))


def json_characters(found: CharSet) -> list[list[str]]:
    """The ways to write one of these characters inside a JSON string: one for each character, as json.dumps has it."""
    ways: list[list[str]] = []
    if raw := found & _RAW:
        ways.append([_class(raw)])
    if short := found & _SHORT_SET:
        letters = chars("".join(letter for c, letter in _SHORT.items() if ord(c) in short))
        ways.append([quoted("\\"), _class(letters)])
    rest = (found & _CONTROL) - _SHORT_SET
    for first in (0, 1):
        if part := rest & span(first * 16, first * 16 + 15):
            digits = "".join(
                f"{code % 16:x}" for low, high in part.ranges for code in range(low, high + 1)
            )
            ways.append([quoted(f"\\u00{first}0"[:-1]), _class(chars(digits))])
    return ways


def one_of(texts: Iterable[str]) -> str:
    """Alternatives of texts."""
    return " | ".join(map(quoted, texts))
