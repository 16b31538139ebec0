"""Chat templates: a model's own Jinja template, rendered by llama.cpp's engine in a sandbox."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from ..errors import TemplateError
from ..prompt import Piece, Prompt
from .message import Message
from .module.guest import ChatGuest

__all__ = ["ChatTemplate"]

_LONGEST = 256 << 10
"""Characters in a template. Real ones have at most about 30,000."""


class ChatTemplate:
    """A model's chat template.

    Args:
        source: in Jinja.
        bos, eos: the tokens that it may name.
        controls: texts of the control tokens, which only the template may spell.

    Attributes:
        source, controls: as given.
    """

    def __init__(
        self, source: str, *, bos: str = "", eos: str = "", controls: Collection[str] = ()
    ) -> None:
        self.source = source
        self._bos = bos
        self._eos = eos
        self.controls = controls

    @cached_property
    def _guest(self) -> ChatGuest:
        if len(self.source) > _LONGEST:
            raise TemplateError(
                f"the model's chat template has {len(self.source)} characters, more than {_LONGEST}"
            )
        return ChatGuest(self.source, self._bos, self._eos)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Render the conversation in the form that the model was trained on.

        Raises:
            TemplateError: the template is broken, takes too long, or refuses these messages, for example because
                the roles are in the wrong order.
        """
        request = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        return self._guest.prompt(request)

    def prompt(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Prompt:
        """Render the whole conversation; no control token that a message spells counts as one.

        Raises:
            TemplateError: as in :meth:`render`.
        """
        marked = [self._marked(message) for message in messages]
        return _unmarked(self.render(marked, add_generation_prompt=add_generation_prompt))

    def next_turn(self, messages: Sequence[Message]) -> tuple[Prompt, Prompt]:
        """Render what follows the last answer when a new user message comes after it.

        ``messages`` ends with an assistant message and the new user message. Returns the text between the
        answer and the user's words (the end of the answer's turn and the start of the user's), and the
        whole continuation.

        Raises:
            TemplateError: the template drops or repeats a message, so nothing can be appended.
        """
        answer, user = _key(), _key()
        before = [self._marked(message) for message in messages[:-2]]
        said = Message(role="assistant", content=answer)
        keyed = self.render([*before, said, Message(role="user", content=user)])
        whole = self.render([*before, said, self._marked(messages[-1])])
        tail = keyed.partition(answer)[2]
        if keyed.count(answer) != 1 or whole.count(answer) != 1 or tail.count(user) != 1:
            raise TemplateError("the chat template drops or repeats messages: cannot append a turn")
        return _unmarked(tail.partition(user)[0]), _unmarked(whole.partition(answer)[2])

    def _marked(self, message: Message) -> Mapping[str, Any]:
        """The message with a mark in each control token that it spells. The template sees all of its words."""
        marked = {key: self._mark_all(value) for key, value in message.items() if key != "role"}
        for call in marked.get("tool_calls", ()):
            # A template may read the arguments, where an escape can hide a control token.
            function = call["function"]
            inside = self._mark_all(json.loads(function["arguments"]))
            function["arguments"] = json.dumps(inside, ensure_ascii=False)
        return {"role": message["role"], **marked}

    def _mark_all(self, value: Any) -> Any:
        """A JSON value with marks in all of its texts and keys."""
        if isinstance(value, str):
            return self._mark_text(value)
        if isinstance(value, Mapping):
            items = cast("Mapping[str, Any]", value).items()
            return {self._mark_text(key): self._mark_all(each) for key, each in items}
        if isinstance(value, list | tuple):
            return [self._mark_all(each) for each in cast("Sequence[Any]", value)]
        return value

    def _mark_text(self, text: str) -> str:
        # What looks like a mark already was written by somebody.
        text = _MARKS.sub(lambda found: _mark(found[0]), text)
        if self._spelled is None:
            return text
        while self._spelled.search(
            text
        ):  # again, because what is left may overlap with another one
            text = self._spelled.sub(lambda found: _mark(found[0][0]) + found[0][1:], text)
        return self._parted(text)

    def _parted(self, text: str) -> str:
        """The text with a mark in each of its ends that something beside it could complete, once it is stripped."""
        begins, ends = self._halves
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        body = text[start:end]
        if any(body[:n] in ends for n in range(2, self._longest + 1)):
            body = _mark(body[0]) + body[1:]
        if any(body[-n:] in begins for n in range(2, self._longest + 1)):
            body = body[:-1] + _mark(body[-1])
        return text[:start] + body + text[end:]

    @cached_property
    def _longest(self) -> int:
        """The length of the longest half."""
        return max((len(half) for halves in self._halves for half in halves), default=0)

    @cached_property
    def _spelled(self) -> re.Pattern[str] | None:
        texts = sorted(filter(None, self.controls), key=len, reverse=True)
        return re.compile(f"(?<!{_OPEN})(?:{'|'.join(map(re.escape, texts))})") if texts else None

    @cached_property
    def _halves(self) -> tuple[frozenset[str], frozenset[str]]:
        """Beginnings and ends of control tokens, which the text beside a message could complete."""
        begins = {text[:n] for text in self.controls for n in range(2, len(text))}
        ends = {text[n:] for text in self.controls for n in range(1, len(text) - 1)}
        return (
            frozenset(filter(_is_telling, begins)),
            frozenset(filter(_is_telling, ends)),
        )


def _is_telling(half: str) -> bool:
    """Whether it is more than the letters that words begin or end with, too."""
    return len(half) >= 6 or not half.isalnum()


_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Around a letter that is only text. Unicode promises that these two are never characters."""

_MARKS = re.compile(f"[{_OPEN}{_CLOSE}]")


def _mark(letter: str) -> str:
    return f"{_OPEN}{letter}{_CLOSE}"


def _unmarked(text: str) -> Prompt:
    """The pieces of what a template made of marked messages. A mark that it cut in two still keeps its halves apart."""
    pieces: list[Piece] = []
    for part in re.split(f"({_OPEN}.{_CLOSE})", text, flags=re.DOTALL):
        if part.startswith(_OPEN) and part.endswith(_CLOSE):
            pieces.append(Piece(part[1:-1]))
        else:
            pieces += [Piece(each, control=True) for each in _MARKS.split(part)]
    return Prompt(tuple(piece for piece in pieces if piece.text))


def _key() -> str:
    # Unguessable, so no message contains it; without white space, so no template strips it.
    return f"@{os.urandom(12).hex()}@"
