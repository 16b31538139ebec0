"""ECMA-262 regular expressions, the part that regular languages have, as a :class:`~.language.Language`.

Engines differ in what ``\\w`` is. So each expression has two readings: *narrow*, what every engine takes (JavaScript,
Python, Rust), and *wide*, what any of them may take. An answer must match the narrow one; what must not match is
excluded by the wide one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .charset import ANY, NOTHING, CharSet, category, chars, span
from .language import EMPTY, EVERYTHING, NEVER, And, Cat, Language, Not, Or, Rep, Set

__all__ = ["Unsupported", "whole", "found_in"]

MAX_LENGTH = 10_000
MAX_DEPTH = 60
MAX_COUNT = 10_000


class Unsupported(ValueError):
    """It is no regular expression, or has something that is not supported."""


@dataclass(frozen=True)
class _Class:
    """One character; its two readings are computed when needed, for some are expensive."""

    narrow: Callable[[], CharSet]
    wide: Callable[[], CharSet]

    def read(self, wide: bool) -> CharSet:
        return self.wide() if wide else self.narrow()


@dataclass(frozen=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Choice:
    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Repeat:
    part: _Node
    least: int
    most: int | None


@dataclass(frozen=True)
class _Look:
    part: _Node
    negative: bool


@dataclass(frozen=True)
class _Anchor:
    kind: str


_Node = _Class | _Sequence | _Choice | _Repeat | _Look | _Anchor

_LINE_ENDS = chars("\n\r\u2028\u2029")
_DIGIT = span(48, 57)
_WORD = _DIGIT | span(65, 90) | span(97, 122) | chars("_")
_ZS = chars(" \u00a0\u1680\u202f\u205f\u3000") | span(0x2000, 0x200A)
_SPACE = _ZS | chars("\t\n\v\f\r\u2028\u2029")
_WIDE_SPACE = _SPACE | span(0x1C, 0x1F) | chars("\u0085\ufeff")


def _category(*names: str) -> CharSet:
    found = NOTHING
    for name in names:
        found = found | (category(name) or NOTHING)
    return found


def _same(one: CharSet) -> _Class:
    return _Class(lambda: one, lambda: one)


def _not(one: _Class) -> _Class:
    return _Class(lambda: ~one.wide(), lambda: ~one.narrow())


_LOWER = {
    "d": _Class(lambda: _DIGIT, lambda: _category("Nd")),
    "w": _Class(lambda: _WORD, lambda: _category("L", "N", "M", "Pc")),
    "s": _Class(lambda: _SPACE, lambda: _WIDE_SPACE),
}
_CLASSES = {**_LOWER, **{name.upper(): _not(one) for name, one in _LOWER.items()}}
_DOT = _Class(lambda: ~_LINE_ENDS, lambda: ~chars("\n"))
_CONTROL = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}
_PROPERTIES = {
    "Any": "",
    "Letter": "L",
    "Uppercase_Letter": "Lu",
    "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt",
    "Cased_Letter": "LC",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Punctuation": "P",
    "punct": "P",
    "Symbol": "S",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Other": "C",
    "Control": "Cc",
}


@lru_cache(512)
def found_in(pattern: str, wide: bool = False) -> Language:
    """The strings in which the pattern is found, as JSON Schema asks it: anywhere, unless it is anchored.

    Raises:
        Unsupported: the pattern cannot be used; says why.
    """
    tree = _parsed(pattern)
    here = _built(tree, EVERYTHING, True, wide)
    if isinstance(tree, _Sequence) and tree.parts and tree.parts[0] == _Anchor("^"):
        return here
    later = _built(tree, EVERYTHING, False, wide)
    return Or((here, Cat((Rep(Set(ANY), 1, None), later))))


@lru_cache(512)
def whole(pattern: str) -> Language:
    """The strings that the whole pattern describes; for the library's own patterns."""
    return _built(_parsed(pattern), EMPTY, True, False)


def _parsed(pattern: str) -> _Node:
    if len(pattern) > MAX_LENGTH:
        raise Unsupported(f"longer than {MAX_LENGTH} characters")
    parser = _Parser(pattern)
    tree = parser.choice(0)
    if parser.left():
        raise Unsupported(f"unexpected {parser.peek()!r} at {parser.pos}")
    return tree


# from the tree to a language. `then` is what follows; `start` whether this is the beginning of the text: True, False,
# or None if it may be.


def _built(node: _Node, then: Language, start: bool | None, wide: bool) -> Language:
    if not _looks(node):
        plain = _plain(node, wide)
        return plain if then == EMPTY else Cat((plain, then))
    match node:
        case _Choice():
            return Or(tuple(_built(part, then, start, wide) for part in node.parts))
        case _Sequence():
            starts: list[bool | None] = []
            for part in node.parts:
                starts.append(start)
                start = _after(part, start)
            for part, begins in zip(reversed(node.parts), reversed(starts), strict=True):
                then = _built(part, then, begins, wide)
            return then
        case _Repeat(least=least, most=most) if most is not None and most <= 4:
            result = then
            for number in range(most, 0, -1):
                here = start if number == 1 else _after(node.part, start)
                once = _built(node.part, result, here, wide)
                result = once if number <= least else Or((once, then))
            return result
        case _Look(negative=True):
            return And((Not(_built(node.part, EVERYTHING, start, not wide)), then))
        case _Look():
            return And((_built(node.part, EVERYTHING, start, wide), then))
        case _Anchor(kind="$"):
            end: Language = Or((EMPTY, Set(chars("\n")))) if wide else EMPTY
            return And((end, then))
        case _Anchor(kind="^"):
            if start is None:
                raise Unsupported("'^' behind something that may be empty")
            return then if start else NEVER
        case _:
            raise Unsupported("an assertion inside a repetition")


def _after(node: _Node, start: bool | None) -> bool | None:
    least, most = _width(node)
    if most == 0 or start is False:
        return start
    return False if least else None


def _width(node: _Node) -> tuple[int, int]:
    """The least number of characters, and 0 or 1 for whether there may be any."""
    match node:
        case _Class():
            return 1, 1
        case _Sequence():
            widths = [_width(part) for part in node.parts]
            return sum(w[0] for w in widths), max((w[1] for w in widths), default=0)
        case _Choice():
            widths = [_width(part) for part in node.parts]
            return min(w[0] for w in widths), max(w[1] for w in widths)
        case _Repeat():
            least, most = _width(node.part)
            return least * node.least, 0 if node.most == 0 else most
        case _:
            return 0, 0


@lru_cache(4096)
def _looks(node: _Node) -> bool:
    match node:
        case _Look() | _Anchor():
            return True
        case _Sequence() | _Choice():
            return any(_looks(part) for part in node.parts)
        case _Repeat():
            return _looks(node.part)
        case _:
            return False


def _plain(node: _Node, wide: bool) -> Language:
    match node:
        case _Class():
            return Set(node.read(wide))
        case _Sequence():
            return Cat(tuple(_plain(part, wide) for part in node.parts))
        case _Choice():
            return Or(tuple(_plain(part, wide) for part in node.parts))
        case _Repeat():
            return Rep(_plain(node.part, wide), node.least, node.most)
        case _:
            raise AssertionError(node)


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.pos = 0

    def left(self) -> bool:
        return self.pos < len(self.pattern)

    def peek(self) -> str:
        return self.pattern[self.pos : self.pos + 1]

    def at(self, text: str) -> bool:
        return self.pattern.startswith(text, self.pos)

    def digit(self) -> bool:
        return "0" <= self.peek() <= "9"

    def take(self, text: str) -> bool:
        if self.pattern.startswith(text, self.pos):
            self.pos += len(text)
            return True
        return False

    def next(self) -> str:
        if not self.left():
            raise Unsupported("it ends too early")
        self.pos += 1
        return self.pattern[self.pos - 1]

    def choice(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise Unsupported(f"groups nested more than {MAX_DEPTH} deep")
        parts = [self.sequence(depth)]
        while self.take("|"):
            parts.append(self.sequence(depth))
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self.left() and not self.at("|") and not self.at(")"):
            parts.append(self.term(depth))
        return _Sequence(tuple(parts))

    def term(self, depth: int) -> _Node:
        if self.take("^"):
            return _Anchor("^")
        if self.take("$"):
            return _Anchor("$")
        atom = self.atom(depth)
        if isinstance(atom, _Look):
            return atom
        bounds = self.quantifier()
        if bounds is None:
            return atom
        self.take("?")  # lazy: the same strings
        if self.left() and self.peek() in "*+{":
            raise Unsupported(f"a quantifier of a quantifier at {self.pos}")
        return _Repeat(atom, *bounds)

    def quantifier(self) -> tuple[int, int | None] | None:
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.take("{"):
            return None
        least = self.number()
        most: int | None = least
        if self.take(","):
            most = None if self.at("}") else self.number()
        if not self.take("}"):
            raise Unsupported(f"a quantifier without '}}' at {self.pos}")
        if least > MAX_COUNT or (most or 0) > MAX_COUNT:
            raise Unsupported(f"more than {MAX_COUNT} repetitions")
        if most is not None and most < least:
            raise Unsupported("a quantifier with its bounds the wrong way round")
        return least, most

    def number(self) -> int:
        digits = ""
        while self.digit():
            digits += self.next()
        if not digits or len(digits) > 9:
            raise Unsupported(f"a quantifier without a usable number at {self.pos}")
        return int(digits)

    def atom(self, depth: int) -> _Node:
        c = self.next()
        if c == ".":
            return _DOT
        if c == "[":
            return self.bracket()
        if c == "\\":
            return self.escape(False)
        if c == "(":
            return self.group(depth)
        if c in "*+?{":
            raise Unsupported(f"nothing to repeat at {self.pos - 1}")
        return _same(chars(c))

    def group(self, depth: int) -> _Node:
        look: bool | None = None
        if self.take("?"):
            if self.take(":"):
                pass
            elif self.take("="):
                look = False
            elif self.take("!"):
                look = True
            elif self.take("<=") or self.take("<!"):
                raise Unsupported("a lookbehind")
            elif self.take("<") or self.take("P<"):
                while self.next() != ">":
                    pass
            else:
                raise Unsupported(f"'(?{self.peek()}'")
        inner = self.choice(depth + 1)
        if not self.take(")"):
            raise Unsupported("a '(' without its ')'")
        return inner if look is None else _Look(inner, look)

    def escape(self, in_class: bool) -> _Class:
        c = self.next()
        if c in _CLASSES:
            return _CLASSES[c]
        if c in "pP":
            return self.property(c == "P")
        if c == "b" and in_class:
            return _same(chars("\b"))
        if c == "0" and self.digit():
            raise Unsupported("an octal escape")
        if c in _CONTROL:
            return _same(chars(_CONTROL[c]))
        if c == "c":
            letter = self.next()
            if not (letter.isascii() and letter.isalpha()):
                raise Unsupported("'\\c' without a letter")
            return _same(span(ord(letter) % 32, ord(letter) % 32))
        if c == "x":
            return _same(span(code := self.hexadecimal(2), code))
        if c == "u":
            return _same(span(code := self.unicode(), code))
        if c in "bB":
            raise Unsupported("a word boundary")
        if c.isalnum():
            raise Unsupported(
                f"'\\{c}'" + (", a back reference" if c.isdigit() or c == "k" else "")
            )
        return _same(chars(c))

    def hexadecimal(self, count: int) -> int:
        digits = "".join(self.next() for _ in range(count))
        try:
            if not digits.isalnum():
                raise ValueError
            return int(digits, 16)
        except ValueError:
            raise Unsupported(f"{digits!r} is not hexadecimal") from None

    def unicode(self) -> int:
        if self.take("{"):
            end = self.pattern.find("}", self.pos)
            if not 0 < end - self.pos < 8:
                raise Unsupported("a '\\u{' without a number")
            code = self.hexadecimal(end - self.pos)
            self.next()
        else:
            code = self.hexadecimal(4)
            if 0xD800 <= code < 0xDC00 and self.take("\\u"):
                low = self.hexadecimal(4)
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        if code not in ANY:
            raise Unsupported(f"U+{code:04X}, which is not a character")
        return code

    def property(self, negated: bool) -> _Class:
        if not self.take("{"):
            raise Unsupported("'\\p' without '{'")
        name = ""
        while (c := self.next()) != "}":
            name += c
        name = name.removeprefix("General_Category=").removeprefix("gc=")
        short = _PROPERTIES.get(name, name)
        if short == "LC":
            one = _category("Lu", "Ll", "Lt")
        elif short == "":
            one = ANY
        else:
            known = category(short) if len(short) <= 2 else None
            if known is None:
                raise Unsupported(f"the property {name!r}")
            one = known
        return _same(~one if negated else one)

    def bracket(self) -> _Class:
        negated = self.take("^")
        parts: list[_Class] = []
        while not self.take("]"):
            low = self.class_atom()
            if self.at("-") and not self.at("-]"):
                self.next()
                high = self.class_atom()
                parts.append(_same(span(_only(low), self.upper(low, high))))
            else:
                parts.append(low)
        several = tuple(parts)

        def read(wide: bool) -> CharSet:
            found = NOTHING
            for part in several:
                found = found | part.read(wide)
            return found

        positive = _Class(lambda: read(False), lambda: read(True))
        return _not(positive) if negated else positive

    def upper(self, low: _Class, high: _Class) -> int:
        code = _only(high)
        if code < _only(low):
            raise Unsupported("a range with its ends the wrong way round")
        return code

    def class_atom(self) -> _Class:
        c = self.next()
        return self.escape(True) if c == "\\" else _same(chars(c))


def _only(one: _Class) -> int:
    found = one.narrow()
    if len(found) != 1:
        raise Unsupported("a range from or to a class of characters")
    return found.ranges[0][0]
