"""A response as events, while it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..chat.stream import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta
from ..generation import Generation
from .answering import Emit, event, to_json
from .refusals import Refused
from .response_record import (
    Item,
    ResponseRecord,
    call_item,
    message_item,
    new_item_id,
    reasoning_item,
    text_part,
)

__all__ = ["ResponseEvents", "output_of"]

Keep = Callable[[Generation, dict[str, Any]], Awaitable[None]]


def output_of(result: Generation) -> list[Item]:
    """The items of a whole answer."""
    status = "incomplete" if result.finish_reason == "length" else "completed"
    output: list[Item] = []
    if result.reasoning:
        output.append(reasoning_item(new_item_id("rs"), status, result.reasoning))
    if result.text or not result.tool_calls:
        parts = [text_part(result.text, result.logprobs)]
        output.append(message_item(new_item_id("msg"), status, parts))
    for call in result.tool_calls:
        arguments = to_json(call.arguments)
        output.append(call_item(new_item_id("fc"), status, call.id, call.name, arguments))
    return output


class ResponseEvents:
    """Tells what comes of an answer: which items begin, grow and end.

    Args:
        record: makes the response.
        emit: sends events.
    """

    def __init__(self, record: ResponseRecord, emit: Emit) -> None:
        self._record = record
        self._emit = emit
        self._number = 0
        self._open: _Open | None = None
        self.output: list[Item] = []

    async def tell(self, kind: str, **facts: Any) -> None:
        """Send one event."""
        data = {"type": kind, "sequence_number": self._number, **facts}
        self._number += 1
        await self._emit(event(to_json(data), kind))

    async def begin(self) -> None:
        """The response begins."""
        for kind in ("response.created", "response.in_progress"):
            await self.tell(kind, response=self._record.begun())

    async def follow(self, answer: AsyncIterator[ChatEvent], first: Callable[[], None]) -> None:
        """Tell what comes of an answer; ``first`` is called with each piece."""
        async for part in answer:
            first()
            if isinstance(part, TextDelta):
                await self._grow("message", part.text)
            elif isinstance(part, ReasoningDelta):
                await self._grow("reasoning", part.text)
            else:
                await self._call(part)

    async def end(self, result: Generation, thoughts: int, keep: Keep) -> None:
        """The response ends. It is kept before that is told."""
        cut = result.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        if self._open is None and not self.output:
            await self._start(_Open("message", new_item_id("msg")))
        await self._close(status, result)
        response = self._record.ended(result, self.output, thoughts)
        await keep(result, response)
        await self.tell(f"response.{status}", response=response)

    def failed(self, refused: Refused) -> bytes:
        """The event that tells an error."""
        response = self._record.failed(refused, self.output)
        data = {"type": "response.failed", "sequence_number": self._number, "response": response}
        return event(to_json(data), "response.failed")

    async def _call(self, part: ToolCallDelta) -> None:
        opened = self._open
        if opened is None or opened.kind != "call" or opened.index != part.index:
            await self._close("completed")
            opened = _Open("call", new_item_id("fc"), part.index, part.id, part.name)
            await self._start(opened)
        if part.arguments:
            opened.text.append(part.arguments)
            kind = "response.function_call_arguments.delta"
            await self.tell(kind, **self._place(opened), delta=part.arguments)

    async def _grow(self, kind: str, text: str) -> None:
        opened = self._open
        if opened is None or opened.kind != kind:
            await self._close("completed")
            opened = _Open(kind, new_item_id("msg" if kind == "message" else "rs"))
            await self._start(opened)
        opened.text.append(text)
        if kind == "message":
            place = self._place(opened)
            await self.tell(
                "response.output_text.delta", **place, content_index=0, delta=text, logprobs=[]
            )
        else:
            place = self._place(opened)
            await self.tell("response.reasoning_text.delta", **place, content_index=0, delta=text)

    def _place(self, opened: _Open) -> dict[str, Any]:
        return {"item_id": opened.id, "output_index": len(self.output)}

    async def _start(self, opened: _Open) -> None:
        self._open = opened
        index = len(self.output)
        await self.tell(
            "response.output_item.added", output_index=index, item=opened.item("in_progress", "")
        )
        if opened.kind != "call":
            await self.tell(
                "response.content_part.added",
                **self._place(opened),
                content_index=0,
                part=opened.part(""),
            )

    async def _close(self, status: str, result: Generation | None = None) -> None:
        """End the item that is open; ``result`` if it is the last."""
        opened, self._open = self._open, None
        if opened is None:
            return
        text = "".join(opened.text)
        place = {**self._place(opened)}
        tokens = None if result is None else result.logprobs
        if opened.kind == "call":
            kind = "response.function_call_arguments.done"
            await self.tell(kind, **place, name=opened.name, arguments=text)
        else:
            part = opened.part(text)
            place["content_index"] = 0
            if opened.kind == "message":
                part = text_part(text, tokens)
                kind = "response.output_text.done"
                await self.tell(kind, **place, text=text, logprobs=part["logprobs"])
            else:
                await self.tell("response.reasoning_text.done", **place, text=text)
            await self.tell("response.content_part.done", **place, part=part)
        item = opened.item(status, text)
        if opened.kind == "message":
            item["content"] = [text_part(text, tokens)]
        index = len(self.output)
        self.output.append(item)
        await self.tell("response.output_item.done", output_index=index, item=item)


class _Open:
    """An item that grows."""

    def __init__(
        self, kind: str, id_: str, index: int = 0, call_id: str = "", name: str = ""
    ) -> None:
        self.kind = kind
        self.id = id_
        self.index = index
        self.call_id = call_id
        self.name = name
        self.text: list[str] = []

    def item(self, status: str, text: str) -> Item:
        """The item, with this text."""
        if self.kind == "call":
            return call_item(self.id, status, self.call_id, self.name, text)
        if self.kind == "reasoning":
            return reasoning_item(self.id, status, text or None)
        content = [] if status == "in_progress" else [text_part(text)]
        return message_item(self.id, status, content)

    def part(self, text: str) -> Item:
        """Its only part."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return text_part(text)
