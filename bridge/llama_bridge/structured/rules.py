"""Writes GBNF: rules, texts, characters, repetitions, automata. Equal rules are written once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .charset import ANY, CharSet, chars, span
from .language import Automaton

__all__ = ["MAX_RULES", "Rules", "TooMany", "json_characters", "one_of", "quoted"]

MAX_RULES = 30_000
MAX_TEXT = 3_000_000
EXACT = 16
UP_TO = 48
"""Above it a repetition is made of blocks: llama.cpp writes one rule for each time."""


SHORT = 200
"""A rule that is a text of at most that length is written out where it is used."""
FACTORED = 3
_ELEMENT = re.compile(r'"(?:[^"\\]|\\.)*"\S*|\[(?:[^\]\\]|\\.)*\]\S*|\S+')
_UNIT = re.compile(r"\\x..|\\u....|\\U........|\\.|.")


class TooMany(Exception):
    """More rules than a grammar may have."""


class Rules:
    """The rules of one grammar."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}
        self._sequences: dict[str, list[str]] = {}
        self._size = 0

    def add(self, body: str, hint: str = "r") -> str:
        """The name of a rule with that body. Rules in it that are one short text are written out there."""
        ways = self._ways(body)
        body = " | ".join(" ".join(way) for way in ways)
        name = self._names.get(body)
        if name is None:
            name = self.name(hint)
            self._names[body] = name
            self.define(name, body)
            if len(ways) == 1:
                self._sequences[name] = ways[0]
        return name

    def _ways(self, body: str) -> list[list[str]]:
        """The alternatives of a body, each as elements, neighbouring texts as one."""
        ways: list[list[str]] = [[]]
        for token in _ELEMENT.findall(body):
            if token == "|":
                ways.append([])
                continue
            known = self._sequences.get(token, ())
            if len(known) == 1 and _is_text(known[0]) and len(known[0]) <= SHORT:
                token = known[0]
            ways[-1].append(token)
        return [_merged(way) or ['""'] for way in ways]

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
        """A rule for any of them: what several begin with is written once, so that they are told apart late."""
        distinct = list(dict.fromkeys(alternatives))
        if len(distinct) < FACTORED:
            return self.add(" | ".join(distinct), hint)
        ways = [
            self._sequences.get(way[0], way) if len(way) == 1 else way
            for one in distinct
            for way in self._ways(one)
        ]
        texts = [(_UNIT.findall(way[0][1:-1]), way[1:]) for way in ways if _is_text(way[0])]
        others = [" ".join(way) for way in ways if not _is_text(way[0])]
        return self.add(" | ".join([*self._factored(texts, hint), *others]), hint)

    def _factored(self, ways: list[tuple[list[str], list[str]]], hint: str) -> list[str]:
        """Alternatives, each a text and what follows it, grouped by how the text begins."""
        groups: dict[str, list[tuple[list[str], list[str]]]] = {}
        for text, rest in ways:
            groups.setdefault(text[0] if text else "", []).append((text, rest))
        found: list[str] = []
        for first, group in groups.items():
            if not first or len(group) == 1:
                found += [" ".join([f'"{"".join(text)}"', *rest]) for text, rest in group]
                continue
            texts = [text for text, _ in group]
            shared = 0
            while all(len(t) > shared and t[shared] == texts[0][shared] for t in texts):
                shared += 1
            below = self._factored([(text[shared:], rest) for text, rest in group], hint)
            inner = self.add(" | ".join(dict.fromkeys(below)), hint)
            found.append(f'"{"".join(texts[0][:shared])}" {inner}')
        return found

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


def _is_text(token: str) -> bool:
    return token[0] == '"' and token[-1] == '"'


def _merged(tokens: Sequence[str]) -> list[str]:
    """Elements, neighbouring texts as one."""
    merged: list[str] = []
    for token in tokens:
        if merged and _is_text(token) and _is_text(merged[-1]):
            merged[-1] = merged[-1][:-1] + token[1:]
        elif token != '""':
            merged.append(token)
    return merged


def _joined(tokens: Sequence[str]) -> str:
    return " ".join(_merged(tokens)) or '""'


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


@lru_cache(4096)
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


@lru_cache(4096)
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
