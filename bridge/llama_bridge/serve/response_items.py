"""The items that a request of /v1/responses says, as messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .fields import Fields

__all__ = ["read_items"]

Message = dict[str, Any]


def read_items(fields: Fields) -> tuple[Sequence[Mapping[str, Any]], list[Message]]:
    """The items as they were given, and the messages that they are.

    Raises:
        Refused: names the field.
    """
    value = fields.any("input")
    if isinstance(value, str):
        text = fields.needed_text("input")
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        return [item], [{"role": "user", "content": text}]
    whole = fields.items("input") if isinstance(value, list) else None
    if not whole:
        raise fields.refuse("input", "a string, or a list of items")
    reading = _Reading()
    given: list[Mapping[str, Any]] = []
    for i, one in enumerate(fields.objects("input")):
        reading.add(one)
        one.done()
        given.append(whole[i])
    return given, reading.finish()


class _Reading:
    """Makes messages of items: thoughts, words and calls that follow each other are one message."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._thought = ""

    def add(self, item: Fields) -> None:
        kind = item.text("type") if "type" in item else "message"
        item.text("id")
        item.choice("status", "in_progress", "completed", "incomplete")
        if kind == "message":
            self._message(item)
        elif kind == "function_call":
            self._call(item)
        elif kind == "function_call_output":
            self._output(item)
        elif kind == "reasoning":
            self._reasoning(item)
        else:
            wanted = '"message", "function_call", "function_call_output" or "reasoning"'
            raise item.refuse("type", wanted)

    def finish(self) -> list[Message]:
        return self._messages

    def _message(self, item: Fields) -> None:
        role = item.choice("role", "user", "assistant", "system", "developer")
        if role is None:
            raise item.refuse("role", "who says it")
        item.choice("phase", "commentary", "final_answer")
        content = _content(item, "content")
        message: Message = {"role": "system" if role == "developer" else role, "content": content}
        if role == "assistant":
            self._think(message)
        self._messages.append(message)

    def _call(self, item: Fields) -> None:
        item.text("namespace")
        call = {
            "id": item.needed_text("call_id"),
            "type": "function",
            "function": {
                "name": item.needed_text("name"),
                "arguments": item.needed_text("arguments"),
            },
        }
        last = self._messages[-1] if self._messages else None
        if last is None or last["role"] != "assistant" or self._thought:
            last = Message(role="assistant", content="")
            self._think(last)
            self._messages.append(last)
        last.setdefault("tool_calls", []).append(call)

    def _output(self, item: Fields) -> None:
        self._messages.append(
            {
                "role": "tool",
                "tool_call_id": item.needed_text("call_id"),
                "content": _content(item, "output"),
            }
        )

    def _reasoning(self, item: Fields) -> None:
        item.text("encrypted_content")
        summary = item.map("summary", lambda part: _part(part, "summary_text"))
        content = item.map("content", lambda part: _part(part, "reasoning_text"))
        self._thought += "".join(content or summary)

    def _think(self, message: Message) -> None:
        if self._thought:
            message["reasoning_content"], self._thought = self._thought, ""


def _content(item: Fields, name: str) -> str:
    value = item.any(name)
    if isinstance(value, str):
        return item.needed_text(name)
    if not isinstance(value, list):
        raise item.refuse(name, "a string, or a list of parts")
    return "".join(
        item.map(name, lambda part: _part(part, "input_text", "output_text", "text", "refusal"))
    )


def _part(part: Fields, *kinds: str) -> str:
    kind = part.text("type")
    if kind not in kinds:
        raise part.refuse("type", " or ".join(f'"{one}"' for one in kinds))
    part.items("annotations")
    part.items("logprobs")
    return part.needed_text("refusal" if kind == "refusal" else "text")
