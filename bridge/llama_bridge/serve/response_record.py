"""A response as clients of /v1/responses get it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..generation import Generation, TokenLogprob
from .refusals import Refused
from .response_request import ResponseAsk
from .wording import facts, logprobs_record

__all__ = [
    "ResponseRecord",
    "call_item",
    "message_item",
    "new_item_id",
    "reasoning_item",
    "text_part",
]

Item = dict[str, Any]


def new_item_id(kind: str) -> str:
    """An id for an item, such as ``"msg_..."``."""
    return f"{kind}_{os.urandom(16).hex()}"


class ResponseRecord:
    """Makes the response of a request, as it is at each time."""

    def __init__(self, id_: str, model: str, ask: ResponseAsk, sampling: Mapping[str, Any]) -> None:
        self.id = id_
        self._fixed: dict[str, Any] = {
            "id": id_,
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **ask.echo,
            **sampling,
        }

    def begun(self) -> dict[str, Any]:
        """The response before there is anything in it."""
        return self._fixed | {
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }

    def failed(self, refused: Refused, output: Sequence[Item]) -> dict[str, Any]:
        """The response that an error has ended."""
        error = {"code": "server_error", "message": refused.message}
        return self.begun() | {"status": "failed", "error": error, "output": list(output)}

    def ended(self, result: Generation, output: Sequence[Item], thoughts: int) -> dict[str, Any]:
        """The whole response.

        Args:
            result: the answer.
            output: its items.
            thoughts: how many tokens the reasoning has.
        """
        cut = result.finish_reason == "length"
        usage = result.usage
        return self.begun() | {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": list(output),
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {
                    "cached_tokens": usage.cached_tokens,
                    "cache_write_tokens": usage.evaluated_tokens,
                },
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": thoughts},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            **facts(result),
        }


def text_part(text: str, tokens: Sequence[TokenLogprob] | None = None) -> Item:
    """The words of a message."""
    record = logprobs_record(tokens)
    logprobs: list[Any] = [] if record is None else record["content"]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def message_item(id_: str, status: str, content: Sequence[Item]) -> Item:
    """A message."""
    made = {"id": id_, "type": "message", "role": "assistant", "status": status}
    return {**made, "content": list(content)}


def reasoning_item(id_: str, status: str, text: str | None) -> Item:
    """What the model thought."""
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {"id": id_, "type": "reasoning", "summary": [], "content": content, "status": status}


def call_item(id_: str, status: str, call_id: str, name: str, arguments: str) -> Item:
    """A call of a tool."""
    made = {"id": id_, "type": "function_call", "status": status}
    return {**made, "call_id": call_id, "name": name, "arguments": arguments}
