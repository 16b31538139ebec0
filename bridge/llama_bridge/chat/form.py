"""How a model is asked in a chat, and how its answer is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..grammar import Grammar
from ..prompt import Prompt
from .module.guest import Parsed
from .tools import Tool

__all__ = ["AnswerReader", "ChatPrompt", "ChatWish", "PlainReader", "ToolForm"]

ToolForm = Literal["template", "own"]
"""``"template"`` if the model's template describes tools and has a form for calls, ``"own"`` for this library's form."""


@dataclass(frozen=True, slots=True)
class ChatWish:
    """What a chat asks for besides its messages.

    Attributes:
        tools: what the model may call.
        choice: ``"auto"``, ``"none"``, ``"required"``, or the tool that must be called.
        parallel: whether it may make several calls at once; None where the template can.
        reasoning: whether it may think first, where the template lets one choose.
        shaped: whether the caller gives a grammar: the answer is then read as it is.
    """

    tools: tuple[Tool, ...] = ()
    choice: str | Tool = "auto"
    parallel: bool | None = None
    reasoning: bool = True
    shaped: bool = False


class AnswerReader(Protocol):
    """Reads one answer."""

    def read(self, text: str, *, partial: bool) -> Parsed:
        """Read on; returns the answer as far as it was read.

        Raises:
            TemplateError: it is not in the form that was asked for.
        """
        ...

    def anew(self) -> AnswerReader:
        """A reader that has read nothing."""
        ...

    def close(self) -> None:
        """Forget what was read."""
        ...


class PlainReader:
    """Takes an answer as it is."""

    def __init__(self) -> None:
        self._text = ""

    def read(self, text: str, *, partial: bool) -> Parsed:
        """See :class:`AnswerReader`."""
        self._text += text
        return Parsed(self._text)

    def anew(self) -> PlainReader:
        """See :class:`AnswerReader`."""
        return PlainReader()

    def close(self) -> None:
        """See :class:`AnswerReader`."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat, ready to be asked.

    Attributes:
        prompt: what the model reads.
        reader: reads its answer.
        grammar: what the answer must look like, or None.
        stops: texts that end the answer.
        keeps: control tokens that the reader needs as text.
        tools: how tools are told, or None if there are none.
    """

    prompt: Prompt
    reader: AnswerReader
    grammar: Grammar | None = None
    stops: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    tools: ToolForm | None = None
