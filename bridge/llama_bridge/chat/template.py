"""Chat templates: a model's own Jinja template, rendered in a sandbox the way its makers' tools do."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import TemplateError
from ..prompt import Piece, Prompt
from .message import Message

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["ChatTemplate", "Rendered"]

_LONGEST = 256 << 10
"""Characters in a template. Real ones have at most about 30,000."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Messages rendered by a template, in two ways.

    Attributes:
        whole: in one piece, as in the model's training.
        apart: with each message's text in its own piece, so that control tokens in it are not taken for the
            template's.
    """

    whole: Prompt
    apart: Prompt


class ChatTemplate:
    """A model's chat template and the special tokens it may name."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self.source = source
        self._specials = {"bos_token": bos, "eos_token": eos}

    @cached_property
    def _template(self) -> Template:
        from .sandbox import (
            BoundedEnvironment,
        )  # Jinja takes 50 ms, and only chats need it

        if len(self.source) > _LONGEST:
            raise TemplateError(
                f"the model's chat template has {len(self.source)} characters, more than {_LONGEST}"
            )
        helpers: dict[str, Any] = {"raise_exception": _raise_exception, "strftime_now": _now}
        return BoundedEnvironment({"tojson": _tojson}, helpers).from_string(self.source)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Render the conversation in the form that the model was trained on.

        Raises:
            TemplateError: the template is broken, takes too long, or refuses these messages, for example because
                the roles are in the wrong order.
        """
        from .sandbox import Allowance  # as above

        try:
            with Allowance(sum(len(message["content"]) for message in messages)):
                text = self._template.render(
                    messages=list(messages),
                    add_generation_prompt=add_generation_prompt,
                    tools=None,
                    **self._specials,
                )
            text.encode()  # it may contain lone surrogates
        except TemplateError:
            raise
        except Exception as error:  # whatever goes wrong in a template is its error
            why = f"{type(error).__name__}: {str(error)[:500]}"
            raise TemplateError(f"the model's chat template failed: {why}") from error
        return text

    def rendered(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> Rendered:
        """Render the whole conversation, in both ways.

        Raises:
            TemplateError: as in :meth:`render`.
        """
        keys = [_key() for _ in messages]
        marked = [
            Message(role=m["role"], content=key) for m, key in zip(messages, keys, strict=True)
        ]
        text = self.render(marked, add_generation_prompt=add_generation_prompt)
        return Rendered(
            _own(self.render(messages, add_generation_prompt=add_generation_prompt)),
            _split(text, keys, [m["content"] for m in messages]),
        )

    def next_turn(self, messages: Sequence[Message]) -> tuple[Prompt, Rendered]:
        """Render what follows the last answer when a new user message comes after it.

        ``messages`` ends with an assistant message and the new user message. Returns the text between the
        answer and the user's words (the end of the answer's turn and the start of the user's), and the
        whole continuation.

        Raises:
            TemplateError: the template drops or repeats a message, so nothing can be appended.
        """
        answer, user = _key(), _key()
        said = Message(role="assistant", content=answer)
        marked = self.render([*messages[:-2], said, Message(role="user", content=user)])
        plain = self.render([*messages[:-2], said, messages[-1]])
        tail = marked.partition(answer)[2]
        if marked.count(answer) != 1 or plain.count(answer) != 1 or tail.count(user) != 1:
            raise TemplateError("the chat template drops or repeats messages: cannot append a turn")
        apart = _split(tail, [user], [messages[-1]["content"]])
        return _own(tail.partition(user)[0]), Rendered(_own(plain.partition(answer)[2]), apart)


def _own(text: str) -> Prompt:
    return Prompt((Piece(text, control=True),))


def _split(text: str, keys: Sequence[str], contents: Sequence[str]) -> Prompt:
    said = dict(zip(keys, contents, strict=True))
    parts = re.split(f"({'|'.join(keys)})", text)
    pieces = (Piece(said.get(part, part), control=part not in said) for part in parts)
    return Prompt(tuple(piece for piece in pieces if piece.text))


def _key() -> str:
    # Unguessable, so no message contains it; without white space, so no template strips it.
    return f"@{os.urandom(12).hex()}@"


def _tojson(value: Any, indent: int | None = None) -> str:
    # Like model makers' tools: readable text, not Jinja's HTML-safe escapes.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    return time.strftime(form)


def _raise_exception(message: object = "") -> None:
    raise TemplateError(f"the chat template refused the messages: {str(message)[:500]}")
