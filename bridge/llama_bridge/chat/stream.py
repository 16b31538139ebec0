"""An answer of a chat while it is generated: words, thoughts and calls of tools, told apart."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

from ..errors import BridgeError, InvalidToolCall, TemplateError
from ..generation import Generation, ToolCall
from ..json_text import read_json
from ..stream import AnswerStream, PendingAnswer, with_value
from .form import AnswerReader, ChatPrompt
from .module.guest import Parsed
from .tools import Tool

__all__ = [
    "ChatEvent",
    "ChatStream",
    "ReasoningDelta",
    "TextDelta",
    "ToolCallDelta",
    "answer_message",
    "refused",
]

_SHARE = 250
"""An answer is read anew from its beginning each time, so a long one is read once this share of it is new: that keeps the
time below 0.1 ms a token."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer.

    Attributes:
        text: what is new.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers.

    Attributes:
        text: what is new.
    """

    text: str
    is_thought: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call.

    Attributes:
        index: which call, from 0.
        id, name: the same in each delta of a call.
        arguments: what is new of its arguments, which are JSON text.
    """

    index: int
    id: str
    name: str
    arguments: str


ChatEvent = TextDelta | ReasoningDelta | ToolCallDelta


class ChatStream(AnswerStream[ChatEvent]):
    """What comes of an answer while it is generated.

    Like :class:`TextStream` it blocks nobody while it is left half read, and ends the answer when it is closed.
    """

    def __init__(
        self,
        answer: PendingAnswer,
        asked: ChatPrompt,
        tools: Sequence[Tool],
        parse: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(answer)
        self._reader = asked.reader
        self._tools = {tool.name: tool for tool in tools}
        self._parse = parse
        self._events: deque[ChatEvent] = deque()
        self._told = Parsed()  # what the events so far amount to
        self._ids: list[str] = []
        self._unread = ""
        self._reading = threading.RLock()  # whose thread uses the reader, or a signal handler in it
        self._read: list[str] = []  # what the reader has read
        self._length = 0  # of that
        self._generation: Generation | None = None
        self._failure: BridgeError | None = None

    def __next__(self) -> ChatEvent:
        while not self._events:
            if self._generation is not None:
                raise StopIteration
            self._go_on(self._answer.read)
        return self._events.popleft()

    def _go_on(self, read: Callable[[], str | None]) -> None:
        """Read the next text of the model, or its end."""
        if self._failure is not None:
            raise self._failure
        text = read()
        with self._reading:
            if text is not None:
                self._hear(text)
                return
            if self._generation is not None:  # another thread was faster
                return
            try:
                self._finish()
            except BridgeError as error:
                self._failure = error
                raise

    def poll(self) -> ChatEvent | Literal[""] | None:
        """The next event; "" after a part of the work that gave none, None at the end. For event loops."""
        if not self._events and self._generation is None:
            self._go_on(self._answer.poll)
        if self._events:
            return self._events.popleft()
        return None if self._generation is not None else ""

    @property
    def result(self) -> Generation:
        """The whole answer. Reads the rest of the stream first.

        Raises:
            EngineError: the generation failed; the cause is chained.
            InvalidToolCall: the arguments of a call do not fit the tool's schema.
            InvalidAnswer: the class given as ``json_schema=`` refuses the answer.
        """
        for _ in self:
            pass
        assert self._generation is not None
        return self._generation

    # inside

    def _hear(self, text: str) -> None:
        """Read what the model wrote, now or together with what follows."""
        self._unread += text
        if len(self._unread) * _SHARE < self._length:
            return
        more, self._unread = self._unread, ""
        with contextlib.suppress(TemplateError):  # what follows may make sense of it
            self._tell(self._reader.read(more, partial=True))
        self._length += len(more)
        self._read.append(more)

    def _finish(self) -> None:
        generation = self._answer.generation
        cut = generation.finish_reason != "stop"
        reader, rest = self._reader, self._unread
        if "".join((*self._read, rest)) != generation.text:  # an interrupt, or another thread
            reader, rest = reader.anew(), generation.text
        self._read.append("?")  # until this is done, the reader may have read the rest or not
        try:
            parsed = read_whole(reader, rest, generation.text, cut=cut)
        finally:
            reader.close()
        calls = self._calls(parsed, generation.text, cut=cut)
        self._tell(parsed)
        generation = replace(
            generation, text=parsed.content, reasoning=parsed.reasoning, tool_calls=calls
        )
        if calls and not cut:
            generation = replace(generation, finish_reason="tool_calls")
        self._generation = with_value(generation, self._parse)

    def _calls(self, parsed: Parsed, text: str, *, cut: bool) -> tuple[ToolCall, ...]:
        made: list[ToolCall] = []
        for i, call in enumerate(parsed.calls):
            try:
                arguments: Any = read_json(call.arguments or "{}")
            except ValueError as error:
                if cut and i == len(parsed.calls) - 1:
                    break  # the answer ended in the middle of it
                raise InvalidToolCall(call.name, call.arguments, text, str(error)) from error
            tool = self._tools.get(call.name)
            if tool is None:
                raise InvalidToolCall(call.name, call.arguments, text, "there is no such tool")
            if why := refused(tool, arguments):
                if cut and i == len(parsed.calls) - 1:
                    break
                raise InvalidToolCall(call.name, call.arguments, text, why)
            made.append(ToolCall(self._id(i, call.id), call.name, arguments))
        return tuple(made)

    def _tell(self, parsed: Parsed) -> None:
        """Make events of what is new. What was told is not taken back: it is what the events amount to."""
        told = self._told
        if (new := _added(told.reasoning, parsed.reasoning)) is not None:
            told.reasoning = parsed.reasoning
            if new:
                self._events.append(ReasoningDelta(new))
        if (new := _added(told.content, parsed.content)) is not None:
            told.content = parsed.content
            if new:
                self._events.append(TextDelta(new))
        for i, call in enumerate(parsed.calls):
            first = i >= len(told.calls)
            if first:
                told.calls.append(replace(call, arguments=""))
            new = _added(told.calls[i].arguments, call.arguments)
            if new or (first and new is not None):
                told.calls[i].arguments = call.arguments
                self._events.append(ToolCallDelta(i, self._id(i, call.id), call.name, new))

    def _id(self, index: int, given: str) -> str:
        """The id of a call: the model's own, or a new one. Nine letters and digits, as Mistral's templates want."""
        while len(self._ids) <= index:
            self._ids.append(
                given if len(self._ids) == index and given else os.urandom(5).hex()[:9]
            )
        return self._ids[index]


def read_whole(reader: AnswerReader, rest: str, text: str, *, cut: bool) -> Parsed:
    """Read the rest of an answer. What is in no form that the template knows is taken as it is: nothing is lost."""
    try:
        return reader.read(rest, partial=cut)
    except TemplateError:
        pass
    fresh = reader.anew()
    try:
        parsed = fresh.read(text, partial=True)
    except TemplateError:
        return Parsed(text)
    finally:
        fresh.close()
    said = parsed.content.rstrip()
    whole = said and text.rstrip().endswith(said)
    return parsed if parsed.calls or whole else Parsed(text)


def answer_message(reader: AnswerReader) -> Callable[[str, bool], Mapping[str, Any]]:
    """Makes of an answer's text the message that a conversation keeps."""

    def make(text: str, cut: bool) -> Mapping[str, Any]:
        fresh = reader.anew()
        try:
            parsed = read_whole(fresh, text, text, cut=cut)
        finally:
            fresh.close()
        calls = [
            {
                "id": call.id or f"call{i:05d}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for i, call in enumerate(parsed.calls)
            if _is_object(call.arguments)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": parsed.content}
        if parsed.reasoning:
            message["reasoning_content"] = parsed.reasoning
        if calls:
            message["tool_calls"] = calls
        return message

    return make


def _is_object(text: str) -> bool:
    try:
        return isinstance(read_json(text), dict)
    except ValueError:
        return False


def _added(before: str, now: str) -> str | None:
    """What a text adds to another one; None if it does not follow it."""
    return now[len(before) :] if now.startswith(before) else None


def refused(tool: Tool, arguments: object) -> str:
    """Why a call with these arguments is not passed on; "" if it is."""
    why = "its schema refuses these arguments"
    if not isinstance(arguments, dict):
        return why
    from ..structured.document import Document  # 60 ms, for those who give tools
    from ..structured.evaluate import Evaluator  # as above

    document = Document(dict(tool.parameters))
    given = cast("dict[str, Any]", arguments)
    try:
        return why if Evaluator(document).valid(given, document.root) is False else ""
    except RecursionError:
        return "these arguments are too deep for its schema"
