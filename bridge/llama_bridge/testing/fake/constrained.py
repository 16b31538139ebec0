"""How the fake's answers are made to fit a grammar."""

from __future__ import annotations

import codecs

from ...errors import EngineError
from ...grammar import Grammar, TriggerWatch
from ...structured.matcher import Matcher

__all__ = ["Constraint"]

_LONGEST = 20_000
_ENOUGH = 200
"""After so many letters of its own in a row, the fake looks for a way to the end first."""
_ENDING = '"}]:, 0123456789tfn{[-.+'
_PRINTABLE = "".join(map(chr, range(32, 127)))


class Constraint:
    """Follows an answer of the fake, whose tokens are bytes, through a grammar.

    Raises:
        InvalidInput: the grammar has elements that stand for tokens.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._waiting = self._watch() if grammar.lazy else None
        self._said: list[int] = []  # while it waits
        self._matcher = Matcher(grammar.text, grammar.root)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def _watch(self) -> TriggerWatch:
        return TriggerWatch(self._grammar, lambda token: bytes([token]))

    def accept(self, byte: int) -> bool:
        """Add a byte of the answer; False if it does not fit."""
        data = bytes([byte])
        if self._waiting is not None:
            begun = self._waiting.begins(byte)
            if begun is None:
                self._waiting.accept(byte)
                self._said.append(byte)
                return True
            data = begun[0] + bytes(begun[1])
        before = self._decoder.getstate()
        try:
            if self._matcher.accept(self._decoder.decode(data)):
                self._waiting = None
                return True
        except UnicodeDecodeError:
            pass
        self._decoder.setstate(before)
        return False

    def fits(self, token: int, ends: frozenset[int]) -> bool:
        """Whether a token may come next that is a whole character, or an end."""
        if self._waiting is not None:
            return True
        if token in ends:
            return self._matcher.may_end
        return token < 128 and self._matcher.copy().accept(chr(token))

    def fit(self, answer: str) -> str:
        """What to say instead of an answer from here on.

        What fits is said as it is; white space that does not fit is left out; where nothing else fits, the fake adds
        letters of its own that lead to the end.

        Raises:
            EngineError: it finds no end.
        """
        free = ""
        if self._waiting is not None:
            watch = self._watch()
            for byte in self._said:
                watch.accept(byte)
            free, answer = _until_trigger(watch, answer)
            if not answer:
                return free
        matcher = self._matcher.copy()
        said: list[str] = []
        rest, own = iter(answer), 0
        wanted = next(rest, "")
        while len(said) < _LONGEST:
            if wanted and matcher.accept(wanted):
                said.append(wanted)
                wanted, own = next(rest, ""), 0
            elif wanted.isspace():
                wanted = next(rest, "")
            elif matcher.may_end:
                return free + "".join(said)
            else:
                own += 1
                said.append(_letter(matcher, own > _ENOUGH))
        raise EngineError("the fake finds no end of the grammar")


def _letter(matcher: Matcher, ending: bool) -> str:
    """A letter that fits, which the matcher accepts."""
    if forced := matcher.forced()[:1]:
        matcher.accept(forced)
        return forced
    # A quotation mark ends a string; any other letter is content in one, so an "a" comes before the brackets.
    for letter in (_ENDING if ending else '"a' + _ENDING) + _PRINTABLE:
        if matcher.accept(letter):
            return letter
    for code in range(160, 0x3000):
        if matcher.accept(chr(code)):
            return chr(code)
    raise EngineError("the fake knows no letter that the grammar allows here")


def _until_trigger(watch: TriggerWatch, answer: str) -> tuple[str, str]:
    """The free part of an answer, and the part that follows the grammar, if a trigger comes."""
    data = answer.encode()
    for i, byte in enumerate(data):
        if (begun := watch.begins(byte)) is not None:
            start = i + 1 - len(begun[0]) - len(begun[1])
            return data[:start].decode("utf-8", "replace"), data[start:].decode("utf-8", "replace")
        watch.accept(byte)
    return answer, ""
