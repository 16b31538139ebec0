"""Tools for a model whose template knows none: told in the system message, called as JSON under a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..errors import InvalidInput, TemplateError
from ..grammar import Grammar, Trigger
from ..structured import to_gbnf
from .form import AnswerReader, ChatWish
from .message import Message
from .module.guest import Parsed, ParsedCall, Rendered
from .tools import Tool

__all__ = ["OwnReader", "own_grammar", "own_messages"]

_KEY = "tool_calls"
_START = re.compile(r"\s*\{\s*\"tool_calls\"")
_BEGINNING = '{"tool_calls"'


def own_messages(messages: Sequence[Message], wish: ChatWish) -> list[Message]:
    """The messages with the tools in the system message, and with calls and results as text."""
    made: list[dict[str, Any]] = []
    for message in messages:
        role, text = message["role"], _text(message.get("content"))
        if role == "tool":
            role, text = "user", f"Result of {message.get('name') or 'the tool'}: {text}"
            if made and made[-1].get("results"):  # roles alternate in many templates
                made[-1]["content"] += "\n" + text
                continue
            made.append({"role": role, "content": text, "results": True})
            continue
        if calls := message.get("tool_calls"):
            text = (text + "\n" if text else "") + _calls_text(calls)
        made.append({"role": role, "content": text})
    told = _told(wish)
    if made and made[0]["role"] in ("system", "developer"):
        made[0]["content"] = f"{made[0]['content']}\n\n{told}"
    else:
        made.insert(0, {"role": "system", "content": told})
    return [Message(role=each["role"], content=each["content"]) for each in made]


def _told(wish: ChatWish) -> str:
    lines = [json.dumps(tool.spec["function"], ensure_ascii=False) for tool in wish.tools]
    example = '{"tool_calls": [{"name": "NAME", "arguments": {...}}]}'
    several = "one or more of them" if wish.parallel else "one of them"
    when = f"To call {several}, answer with nothing but {example}."
    if wish.choice == "auto":
        when += " Otherwise answer in plain words."
    elif wish.choice == "none":
        when = "Do not call them now."
    return "\n".join(["You can call these tools:", *lines, when])


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(part["text"] for part in content)


def _calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    several = [
        {
            "name": call["function"]["name"],
            "arguments": json.loads(call["function"]["arguments"]),
        }
        for call in calls
    ]
    return json.dumps({_KEY: several}, ensure_ascii=False)


def own_grammar(wish: ChatWish, rendered: Rendered) -> Grammar | None:
    """What an answer with calls must look like; arguments validate by construction.

    Args:
        wish: tools and how they may be used.
        rendered: the chat as the template renders it, which says whether the model thinks first.

    Raises:
        InvalidInput: the schema of a tool has a keyword that no grammar can enforce.
    """
    if wish.choice == "none":
        return None
    several = (wish.choice,) if isinstance(wish.choice, Tool) else wish.tools
    for tool in several:
        try:
            to_gbnf(dict(tool.parameters))
        except InvalidInput as error:
            raise InvalidInput(f"the tool {tool.name!r}: {error}") from error
    calls: dict[str, Any] = {
        "type": "array",
        "items": {"anyOf": [_call_schema(tool) for tool in several]},
        "minItems": 1,
    }
    if not wish.parallel:
        calls["maxItems"] = 1
    text = to_gbnf(
        {
            "type": "object",
            "properties": {_KEY: calls},
            "required": [_KEY],
            "additionalProperties": False,
        }
    )
    ends = [tag for tag in rendered.thinking[1:] if tag]
    if wish.choice == "auto":
        before = "|".join(["^", *map(re.escape, ends)])
        trigger = Trigger("pattern", rf"(?:{before})\s*(\{{\"{_KEY}\")")
        return Grammar(text, lazy=True, triggers=(trigger,))
    begins = rendered.thinking[:1]
    if ends and begins[0] and rendered.generation_prompt.rstrip().endswith(begins[0]):
        return Grammar(f"{_thinking(ends[0])}\n{text}", root="thinking", controls=True)
    return Grammar(text)


def _thinking(end: str) -> str:
    """A rule for thoughts up to the tag that ends them, and the root after it."""
    first = json.dumps(end[0])
    no_first, no_second = (f"[^{_in_class(letter)}]" for letter in (end[0], end[1:2] or " "))
    return f"thinking ::= ( {no_first} | {first} {no_second} )* {json.dumps(end)} [ \\t\\n]* root"


def _in_class(letter: str) -> str:
    return f"\\{letter}" if letter in "\\]^-[" else letter


def _call_schema(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": dict(tool.parameters)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


class OwnReader:
    """Reads an answer that is either plain words or calls.

    Args:
        plain: reads an answer without tools: it knows what is thought and what is said.
        calls: whether there may be calls.
    """

    def __init__(self, plain: AnswerReader, *, calls: bool = True) -> None:
        self._plain = plain
        self._calls = calls

    def read(self, text: str, *, partial: bool) -> Parsed:
        """See :class:`~.form.AnswerReader`."""
        read = self._plain.read(text, partial=partial)
        said = read.content.lstrip()
        if not self._calls:
            return read
        if partial and _BEGINNING.startswith(said):
            return Parsed("", read.reasoning)  # it may become a call
        if not _START.match(said):
            return read
        try:
            value, _ = json.JSONDecoder().raw_decode(said)
            calls = cast("list[dict[str, Any]]", value[_KEY])
        except ValueError as error:
            if partial:
                return Parsed("", read.reasoning, _begun(said))
            raise TemplateError(f"the calls in the answer are cut: {error}") from error
        return Parsed(
            "",
            read.reasoning,
            [
                ParsedCall("", call["name"], json.dumps(call["arguments"], ensure_ascii=False))
                for call in calls
            ],
        )

    def anew(self) -> OwnReader:
        """See :class:`~.form.AnswerReader`."""
        return OwnReader(self._plain.anew(), calls=self._calls)

    def close(self) -> None:
        """See :class:`~.form.AnswerReader`."""
        self._plain.close()


_CALL = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


def _begun(said: str) -> list[ParsedCall]:
    """The calls in text that is cut: all but the last are whole."""
    found: list[ParsedCall] = []
    decoder = json.JSONDecoder()
    at = 0
    while match := _CALL.search(said, at):
        begin = match.end()
        try:
            _, at = decoder.raw_decode(said, begin)
        except ValueError:
            at = len(said)
        found.append(ParsedCall("", json.loads(match[1]), said[begin:at]))
    return found
