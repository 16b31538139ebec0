"""``/v1/chat/completions``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..aio import AsyncStream
from ..chat.stream import ChatEvent, ReasoningDelta, TextDelta
from ..generation import Generation
from .answering import Emit, EventStream, event, side_by_side, to_json, while_connected
from .chat_request import ChatAsk, read_chat
from .metrics import Meters
from .refusals import Refused, naming
from .server import Server
from .wording import FINGERPRINT, checked_reason, facts, logprobs_record, usage_record

__all__ = ["chat_completions"]

_FIELDS = {"max_tokens": "max_completion_tokens"}

Answer = AsyncStream[ChatEvent, Generation]


async def chat_completions(server: Server, request: Request) -> Response:
    """Answer a chat."""
    began = time.perf_counter()
    ask = await server.read(request, read_chat)
    async with AsyncExitStack() as stack:

        async def begin() -> tuple[str, list[Answer]]:
            served = await stack.enter_async_context(server.work(ask.model))
            answers = [
                served.llama.chat_stream(ask.messages, **ask.arguments(i)) for i in range(ask.n)
            ]
            with server.beginning(), naming(_FIELDS | ask.shaped_by):
                for answer in answers:
                    await stack.enter_async_context(answer)
            return served.name, answers

        name, answers = await while_connected(request, begin)
        if ask.stream:
            chunks = _Chunks(name, ask, answers, server.meters, began)
            patience = server.settings.read_seconds
            return EventStream(chunks.tell, chunks.failed, stack.pop_all(), patience)
        results = await while_connected(request, lambda: _results(answers))
        for result in results:
            server.meters.answered(result)
        return JSONResponse(_completion(name, results))
    raise AssertionError


async def _results(answers: Sequence[Answer]) -> list[Generation]:
    return [await answer.result() for answer in answers]


def _completion(name: str, results: Sequence[Generation]) -> dict[str, Any]:
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {
                "index": i,
                "message": {**result.message, "refusal": None},
                "logprobs": logprobs_record(result.logprobs),
                "finish_reason": checked_reason(result),
            }
            for i, result in enumerate(results)
        ],
        "usage": usage_record([result.usage for result in results]),
        **facts(results[0]),
    }


def _new_id() -> str:
    return f"chatcmpl-{os.urandom(16).hex()}"


class _Chunks:
    """Answers as chunks: the part of a chunk that stays the same is written once."""

    def __init__(
        self, name: str, ask: ChatAsk, answers: Sequence[Answer], meters: Meters, began: float
    ) -> None:
        self._meters = meters
        self._first = meters.first_token(began)
        self._ask = ask
        self._answers = answers
        head = {"id": _new_id(), "object": "chat.completion.chunk", "created": int(time.time())}
        self._head = to_json({**head, "model": name, "system_fingerprint": FINGERPRINT})[:-1]
        self._tail = ',"usage":null' if ask.include_usage else ""

    async def tell(self, emit: Emit) -> None:
        """Send all answers, side by side."""
        results: list[Generation | None] = [None] * len(self._answers)

        async def one(index: int) -> None:
            results[index] = await self._one(emit, index, self._answers[index])

        if len(self._answers) == 1:
            await one(0)
        else:
            await side_by_side([partial(one, i) for i in range(len(self._answers))])
        done = [result for result in results if result is not None]
        if self._ask.include_usage:
            usage = to_json(usage_record([result.usage for result in done]))
            await emit(event(f'{self._head},"choices":[],"usage":{usage}}}'))
        await emit(event("[DONE]"))

    async def _one(self, emit: Emit, index: int, answer: Answer) -> Generation:
        before = f'{self._head},"choices":[{{"index":{index},"delta":'
        after = f',"logprobs":null,"finish_reason":null}}]{self._tail}}}'

        async def delta(value: dict[str, Any]) -> None:
            await emit(event(f"{before}{to_json(value)}{after}"))

        await delta({"role": "assistant", "content": "", "refusal": None})
        begun: set[int] = set()
        async for part in answer:
            self._first()
            if isinstance(part, TextDelta):
                await delta({"content": part.text})
            elif isinstance(part, ReasoningDelta):
                await delta({"reasoning_content": part.text})
            else:
                call: dict[str, Any] = {"index": part.index}
                function = {"arguments": part.arguments}
                if part.index not in begun:
                    begun.add(part.index)
                    call |= {"id": part.id, "type": "function"}
                    function = {"name": part.name, **function}
                await delta({"tool_calls": [{**call, "function": function}]})
        result = await answer.result()
        self._meters.answered(result)
        choice = {
            "index": index,
            "delta": {},
            "logprobs": logprobs_record(result.logprobs),
            "finish_reason": checked_reason(result),
        }
        last = to_json({"choices": [choice], **facts(result)})[1:-1]
        await emit(event(f"{self._head},{last}{self._tail}}}"))
        return result

    def failed(self, refused: Refused) -> bytes:
        """The event that tells an error."""
        return event(to_json(refused.record))
