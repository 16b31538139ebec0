"""An answer of a chat as one text: words, thoughts and calls, each in a line of JSON, as a runtime gives text alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llama_bridge.chat.form import ChatWish
from llama_bridge.chat.message import Message
from llama_bridge.chat.module.guest import Parsed, ParsedCall
from llama_bridge.prompt import Prompt

__all__ = ["ServerPrompt", "SpokenReader", "spoken_call", "spoken_text", "spoken_thought"]


@dataclass(frozen=True, slots=True)
class ServerPrompt(Prompt):
    """A chat that the server renders itself. As text it is empty.

    Attributes:
        messages: what was said.
        wish: what else is asked for.
    """

    messages: tuple[Message, ...] = ()
    wish: ChatWish = ChatWish()  # noqa: RUF009 -- it is frozen


def spoken_text(text: str) -> str:
    """More words."""
    return _line({"t": text})


def spoken_thought(text: str) -> str:
    """More thoughts."""
    return _line({"r": text})


def spoken_call(index: int, id_: str, name: str, arguments: str) -> str:
    """More of a call."""
    return _line({"c": [index, id_, name, arguments]})


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


@dataclass(slots=True)
class _Call:
    arguments: list[str]
    id: str = ""
    name: str = ""


class SpokenReader:
    """Reads such a text."""

    def __init__(self) -> None:
        self._rest = ""
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []

    def read(self, text: str, *, partial: bool) -> Parsed:
        """See :class:`llama_bridge.AnswerReader`."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._take(json.loads(line))
        calls = [ParsedCall(call.id, call.name, "".join(call.arguments)) for call in self._calls]
        return Parsed("".join(self._content), "".join(self._reasoning), calls)

    def _take(self, said: dict[str, Any]) -> None:
        if "t" in said:
            self._content.append(said["t"])
        elif "r" in said:
            self._reasoning.append(said["r"])
        else:
            number, id_, name, arguments = said["c"]
            index = int(number)
            while len(self._calls) <= index:
                self._calls.append(_Call([]))
            call = self._calls[index]
            call.id, call.name = call.id or id_, call.name or name
            call.arguments.append(arguments)

    def anew(self) -> SpokenReader:
        """See :class:`llama_bridge.AnswerReader`."""
        return SpokenReader()

    def close(self) -> None:
        """See :class:`llama_bridge.AnswerReader`."""
