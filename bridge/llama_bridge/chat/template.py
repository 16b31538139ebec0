"""Chat templates: a model's own Jinja template, rendered in a sandbox as its makers' tools render it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from ..checks import check_text
from ..errors import InvalidInput, TemplateError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

__all__ = ["ChatTemplate", "Message", "check_messages"]


class Message(TypedDict):
    """One message of a conversation: who says what."""

    role: str
    content: str


def check_messages(messages: Sequence[Mapping[str, object]]) -> list[Message]:
    """The messages as plain dictionaries.

    Raises:
        InvalidInput: an empty list, or something that is not ``{"role": str, "content": str}``.
    """
    if not isinstance(messages, Sequence):
        raise InvalidInput(f"messages={messages!r}: give a list of {{'role': ..., 'content': ...}}")
    checked: list[Message] = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidInput(
                f"messages[{i}] is {message!r}: give {{'role': ..., 'content': ...}}"
            )
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidInput(
                f"messages[{i}] needs the strings 'role' and 'content', got {message!r}"
            )
        check_text("role", role)
        check_text("content", content)
        checked.append({"role": role, "content": content})
    if not checked:
        raise InvalidInput("messages is empty: give at least one")
    return checked


class ChatTemplate:
    """A model's chat template and the special tokens it may name."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self.source = source
        self._specials = {"bos_token": bos, "eos_token": eos}

    @cached_property
    def _template(self) -> Template:
        # Jinja takes 50 ms: as long as all of llama_bridge, and who never chats does not pay for it.
        from jinja2 import TemplateError as JinjaError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
        )
        env.filters["tojson"] = _tojson
        helpers: dict[str, Any] = {"raise_exception": _raise_exception, "strftime_now": _now}
        env.globals.update(helpers)
        try:
            return env.from_string(self.source)
        except JinjaError as error:
            raise TemplateError(f"the model's chat template cannot be parsed: {error}") from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the model was trained to read it.

        Raises:
            TemplateError: the template is broken or refuses these messages (roles in a wrong order, say).
        """
        try:
            return self._template.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                tools=None,
                **self._specials,
            )
        except TemplateError:
            raise
        except Exception as error:  # whatever a model's template does wrong is the template's error
            raise TemplateError(f"the chat template refused the messages: {error}") from error

    def segments(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """The rendered conversation in pieces, each with whether it is the template's own.

        The content of system and user messages comes back apart and unchanged, so that control tokens
        spelled inside it can be told from the template's.
        """
        keys = [_key() for _ in messages]
        marked: list[Message] = [
            {"role": m["role"], "content": key} for m, key in zip(messages, keys, strict=True)
        ]
        return _split(self.render(marked), keys, [m["content"] for m in messages])

    def next_turn(
        self, messages: Sequence[Message], *, apart: bool = False
    ) -> tuple[str, list[tuple[str, bool]]]:
        """What follows the last answer when a new user message comes after it.

        ``messages`` ends with an assistant message and the new user message. Returns the text between the
        answer and the user's words (the end of the answer's turn and the start of the user's), and the
        whole continuation: in pieces as in :meth:`segments` where the user's words are to be kept ``apart``.

        Raises:
            TemplateError: the template does not keep the answer, so that nothing can be appended.
        """
        answer, user = _key(), _key()
        said: Message = {"role": "assistant", "content": answer}
        marked = self.render([*messages[:-2], said, {"role": "user", "content": user}])
        plain = self.render([*messages[:-2], said, messages[-1]])
        tail = marked.partition(answer)[2]
        if marked.count(answer) != 1 or plain.count(answer) != 1 or tail.count(user) != 1:
            raise TemplateError(
                "the chat template drops or repeats messages: cannot append a turn to it"
            )
        between = tail.partition(user)[0]
        if apart:
            return between, _split(tail, [user], [messages[-1]["content"]])
        return between, [(plain.partition(answer)[2], True)]


def _generation_tag() -> type[Extension]:
    """``{% generation %}`` marks the assistant's part for trainers; here its content stands for itself."""
    from jinja2.ext import Extension  # 50 ms, see above

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012 -- Jinja's own form

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def _split(text: str, keys: Sequence[str], contents: Sequence[str]) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for key, content in zip(keys, contents, strict=True):
        before, found, rest = text.partition(key)
        if found:
            pieces += [(before, True), (content, False)]
            text = rest
    pieces.append((text, True))
    return [piece for piece in pieces if piece[0]]


def _key() -> str:
    # Unguessable, so that no message can contain it; no white space, so that no template strips it.
    return f"@{os.urandom(12).hex()}@"


def _tojson(value: Any, indent: int | None = None) -> str:
    # As model makers' tools do it: readable text, not Jinja's HTML-safe escapes.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _now(form: str) -> str:
    return time.strftime(form)


def _raise_exception(message: str) -> None:
    raise TemplateError(f"the chat template refused the messages: {message}")
