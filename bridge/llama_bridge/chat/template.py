"""Chat templates: a model's own Jinja template, rendered by llama.cpp's engine in a sandbox."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

from ..errors import TemplateError
from ..grammar import Grammar, Trigger, TriggerKind
from ..prompt import Piece, Prompt
from .form import ChatPrompt, ChatWish, PlainReader, ToolForm
from .message import Message
from .module.guest import ChatGuest, Rendered
from .tools import Tool

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
        marked = self._marked_all(messages)
        return _unmarked(self.render(marked, add_generation_prompt=add_generation_prompt))

    def chat(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """Render a chat for an answer that will be read.

        Raises:
            InvalidInput: a tool's schema cannot be enforced.
            TemplateError: as in :meth:`render`.
        """
        if wish.shaped:
            request = {"messages": self._marked_all(messages), "enable_thinking": False}
            return ChatPrompt(_unmarked(self._guest.prompt(request)), PlainReader())
        if not wish.tools:
            rendered = self._guest.render(self._request(messages, wish))
            return _asked(rendered, _unmarked(rendered.prompt))
        if self.tool_form == "own":
            return self._own_chat(messages, wish)
        return self._native_chat(messages, wish)

    @cached_property
    def tool_form(self) -> ToolForm:
        """How tools are told to this model. llama.cpp ignores them in silence where a template does not know them."""
        function = {"name": _PROBE, "description": _PROBE_TEXT, "parameters": _PROBE_PARAMETERS}
        request = {
            "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "required",
        }
        try:
            rendered = self._guest.render(request)
        except TemplateError:
            return "own"
        rendered.reader.close()
        told = _PROBE in rendered.prompt and _PROBE_TEXT in rendered.prompt
        return "template" if told and rendered.grammar else "own"

    def _request(self, messages: Sequence[Message], wish: ChatWish) -> dict[str, Any]:
        request: dict[str, Any] = {
            "messages": self._marked_all(messages),
            "enable_thinking": wish.reasoning,
        }
        if wish.parallel is not None:
            request["parallel_tool_calls"] = wish.parallel
        return request

    def _native_chat(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """With tools in the template's own form."""
        request = self._request(messages, wish)
        specs = [tool.spec for tool in wish.tools]
        marked = [self._marked_tool(spec) for spec in specs]
        required = {**request, "tools": specs, "tool_choice": "required"}
        if isinstance(wish.choice, Tool):
            rendered = self._guest.render({**required, "tools": [wish.choice.spec]})
        else:
            rendered = self._guest.render({**request, "tools": specs, "tool_choice": wish.choice})
        prompt = rendered.prompt
        if marked != specs or isinstance(wish.choice, Tool):
            # What a description spells is marked in the prompt, never in the grammar or in what the reader expects.
            choice = "required" if isinstance(wish.choice, Tool) else wish.choice
            prompt = self._guest.prompt({**request, "tools": marked, "tool_choice": choice})
        from .strict import stricter  # 60 ms with the schemas

        asked = _asked(rendered, _unmarked(prompt))
        if wish.choice == "auto" and asked.grammar is None:
            # Llama 3 has no sign that begins a call: it is JSON from the first letter on.
            forced = self._guest.render(required)
            forced.reader.close()
            asked = replace(asked, grammar=_lazy_json(forced.grammar))
        if asked.grammar is not None:
            text = stricter(asked.grammar.text, wish.tools)
            asked = replace(asked, grammar=replace(asked.grammar, text=text))
        return replace(asked, tools="template")

    def _own_chat(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """With tools in this library's form."""
        from .own_form import OwnReader, own_grammar, own_messages  # 60 ms with the schemas

        told = own_messages(messages, wish)
        rendered = self._guest.render(self._request(told, replace(wish, parallel=None)))
        plain = _asked(rendered, _unmarked(rendered.prompt))
        reader = OwnReader(plain.reader, calls=wish.choice != "none")
        grammar = own_grammar(wish, rendered)
        return replace(plain, reader=reader, grammar=grammar, tools="own")

    def _marked_all(self, messages: Sequence[Message]) -> list[Mapping[str, Any]]:
        return [self._marked(message) for message in messages]

    def _marked_tool(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        if self._spelled is None:
            return dict(spec)
        return {"type": "function", "function": self._mark_all(spec["function"])}

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


def _lazy_json(grammar: str) -> Grammar | None:
    """The part of a grammar for required calls that describes a call itself, in force once one begins."""
    if match := re.search(r"^root ::= .*\b(tool-calls?)$", grammar, re.M):
        return Grammar(grammar, lazy=True, triggers=(_JSON_CALL,), root=match[1], controls=True)
    return None


def _asked(rendered: Rendered, prompt: Prompt) -> ChatPrompt:
    grammar = None
    if rendered.grammar:
        triggers = tuple(
            Trigger(cast("TriggerKind", kind), value) for kind, value in rendered.triggers
        )
        lazy = rendered.grammar_lazy and bool(triggers)
        grammar = Grammar(
            rendered.grammar,
            lazy=lazy,
            triggers=triggers if lazy else (),
            controls=True,
            begun="" if lazy else rendered.generation_prompt,
        )
    return ChatPrompt(prompt, rendered.reader, grammar, rendered.stops, rendered.tokens)


_PROBE = "find_lost_umbrella"
_PROBE_TEXT = "Finds an umbrella that was lost"
_PROBE_PARAMETERS = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
}
"""A tool that no template mentions by itself."""
_JSON_CALL = Trigger("pattern", r"^\s*(\{\s*\"(?:name|type|function)\")")


def _key() -> str:
    # Unguessable, so no message contains it; without white space, so no template strips it.
    return f"@{os.urandom(12).hex()}@"
