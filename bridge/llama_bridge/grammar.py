"""What an answer must look like: a GBNF grammar, in force from the first token or once a trigger was said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .checks import check_flag, check_text, shown
from .errors import InvalidInput

__all__ = ["Grammar", "JsonSchema", "Trigger", "TriggerKind", "TriggerWatch"]

JsonSchema = Mapping[str, Any] | str | bool | type[Any]
"""What ``json_schema=`` takes: a schema, its text, True, or a pydantic model, dataclass or TypedDict."""

TriggerKind = Literal["word", "token", "pattern", "pattern_full"]
_KINDS = ("word", "token", "pattern", "pattern_full")


@dataclass(frozen=True, slots=True)
class Trigger:
    """What puts a lazy grammar in force.

    Attributes:
        kind: ``"word"`` for a text, ``"token"`` for one token, ``"pattern"`` for a regular expression that is found
            anywhere, ``"pattern_full"`` for one that matches the whole answer so far. The grammar is in force from the
            beginning of the text; from a pattern's first group that is not empty, or its beginning.
        value: the text or the pattern.
        token: the token id of ``"token"``.
    """

    kind: TriggerKind
    value: str = ""
    token: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _KINDS:
            raise InvalidInput(f"kind={shown(self.kind)}: give one of {', '.join(_KINDS)}")
        check_text("value", self.value)
        if self.kind == "token":
            if isinstance(self.token, bool) or not isinstance(self.token, int) or self.token < 0:
                raise InvalidInput(f"token={shown(self.token)}: give a token id")
        elif self.token is not None:
            raise InvalidInput(f"token={shown(self.token)}: only kind='token' has one")
        elif not self.value:
            raise InvalidInput(
                "value is empty: give a text or a pattern, or kind='token' with token="
            )


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar that an answer follows. The answer ends only where the grammar may end.

    Attributes:
        text: the grammar, in llama.cpp's GBNF.
        lazy: whether it is in force only from a trigger on; before that the answer is free.
        triggers: what puts a lazy grammar in force.
        root: name of its first rule.
        controls: whether a control token can stand for its spelling, as tool calls need it. Otherwise the text of
            the answer follows the grammar, and control tokens are no text.
        begun: a text that the grammar begins with and that stands before the answer: the end of the prompt.
    """

    text: str
    lazy: bool = False
    triggers: tuple[Trigger, ...] = ()
    root: str = "root"
    controls: bool = False
    begun: str = ""

    def __post_init__(self) -> None:
        if not check_text("text", self.text).strip() or "\0" in self.text:
            raise InvalidInput("text is empty or contains NUL: give a grammar in GBNF")
        check_flag("lazy", self.lazy)
        check_flag("controls", self.controls)
        if not re.fullmatch(r"[A-Za-z0-9-]+", check_text("root", self.root)):
            raise InvalidInput(f"root={shown(self.root)}: give the name of a rule")
        check_text("begun", self.begun)
        triggers: object = self.triggers
        if not isinstance(triggers, tuple) or not all(isinstance(t, Trigger) for t in triggers):
            raise InvalidInput(f"triggers={shown(triggers)}: give a tuple of Trigger")
        if self.lazy != bool(self.triggers):
            raise InvalidInput("triggers go with lazy=True, and lazy=True needs triggers")
        for trigger in self.triggers:
            if trigger.kind.startswith("pattern"):
                _compiled(trigger)


class TriggerWatch:
    """Waits for a trigger of a lazy grammar. For those who write an engine.

    llama.cpp can wait too, but it searches with ``std::regex``, which overflows the stack on a long answer, and it ends
    the process if what follows the trigger in the same token does not fit the grammar.

    Args:
        grammar: a lazy grammar.
        spell: the bytes of a token, with control tokens spelled.
    """

    def __init__(self, grammar: Grammar, spell: Callable[[int], bytes]) -> None:
        self._spell = spell
        self._tokens: list[int] = []
        self._said = bytearray()
        self._starting = {t.token for t in grammar.triggers if t.kind == "token"}
        self._words = [t.value.encode() for t in grammar.triggers if t.kind == "word"]
        self._patterns = [_compiled(t) for t in grammar.triggers if t.kind.startswith("pattern")]

    def accept(self, token: int) -> None:
        """A token was said and is not a trigger."""
        self._tokens.append(token)
        self._said += self._spell(token)

    def begins(self, token: int) -> tuple[bytes, list[int]] | None:
        """What the grammar has to follow if this token comes next: the rest of a token, then whole tokens.

        None if no trigger comes with it. Does not change the watch.
        """
        if token in self._starting:
            return b"", [token]
        piece = self._spell(token)
        said = bytes(self._said) + piece
        start = self._find(said, len(piece))
        if start is None:
            return None
        whole: list[int] = []
        at = len(said)
        for one in (token, *reversed(self._tokens)):
            size = len(self._spell(one))
            if at - size < start:
                return said[start:at], whole
            at -= size
            whole.insert(0, one)
            if at == start:
                break
        return b"", whole

    def _find(self, said: bytes, new: int) -> int | None:
        for word in self._words:
            at = said.find(word, max(0, len(said) - new - len(word) + 1))
            if at >= 0:
                return at
        for pattern in self._patterns:
            if (match := pattern.search(said)) is not None:
                groups = (i for i in range(1, pattern.groups + 1) if match[i])
                return match.start(next(groups, 0))
        return None


def _compiled(trigger: Trigger) -> re.Pattern[bytes]:
    """A trigger's pattern, over bytes as in llama.cpp. It is ECMAScript's, of which models' triggers use little."""
    pattern = trigger.value
    if trigger.kind == "pattern_full":
        pattern = f"^(?:{pattern.removeprefix('^').removesuffix('$')})$"
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1] + r"\Z"  # Python's $ also matches before a line break
    try:
        return re.compile(pattern.encode())
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(f"value={shown(trigger.value)}: not a pattern ({error})") from error
