"""``/v1/completions``: raw text in, raw text out, with no chat template."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..aio import AsyncStream
from ..generation import Generation, TokenLogprob
from ..params import SamplingSettings
from .answering import Emit, EventStream, event, side_by_side, to_json, while_connected
from .fields import Fields
from .metrics import Meters
from .refusals import Refused
from .sampling_fields import SEEDS, read_sampling
from .server import Server
from .wording import FINGERPRINT, checked_reason, facts, logprobs_record, usage_record

__all__ = ["CompletionAsk", "completions", "read_completion"]

Answer = AsyncStream[str, Generation]

_MOST = 16
"""How many answers a request may ask for."""

_DEFAULT_TOKENS = 16
"""As OpenAI has it: a text that nobody ends would fill the context."""


@dataclass(frozen=True, slots=True)
class CompletionAsk:
    """A request, checked as far as no model is needed for it."""

    model: str | None
    prompts: tuple[str, ...]
    n: int
    echo: bool
    stop: tuple[str, ...]
    grammar: str | None
    logprobs: int | None
    settings: SamplingSettings
    stream: bool
    include_usage: bool

    def arguments(self, index: int) -> dict[str, Any]:
        """Arguments of ``generate_stream`` for one of the answers."""
        settings: dict[str, Any] = {"max_tokens": _DEFAULT_TOKENS, **self.settings}
        if index and settings.get("seed") is not None:
            settings["seed"] = (settings["seed"] + index) % SEEDS
        given: dict[str, Any] = {"stop": self.stop, "logprobs": self.logprobs}
        return given | {"grammar": self.grammar, "chat": False} | settings


def read_completion(fields: Fields) -> CompletionAsk:
    """Read a request.

    Raises:
        Refused: names the field.
    """
    stream = fields.flag("stream")
    options = fields.inner("stream_options")
    include_usage = False
    if options is not None:
        if not stream:
            why = "stream_options needs stream=true"
            raise Refused(400, why, param="stream_options", code="invalid_value")
        include_usage = options.flag("include_usage")
        options.flag("include_obfuscation")
        options.done()
    prompts = _prompts(fields)
    n = fields.whole("n", 1, _MOST) or 1
    if len(prompts) * n > _MOST:
        raise fields.refuse("n", f"at most {_MOST} answers in all")
    fields.only(
        "suffix", "", why="this server fills nothing in: give the prompt as the model wants it"
    )
    fields.only("best_of", n, why="this server gives all answers that it makes: use n")
    fields.text("user")
    ask = CompletionAsk(
        model=fields.text("model"),
        prompts=prompts,
        n=n,
        echo=fields.flag("echo"),
        stop=fields.texts("stop", most=16),
        grammar=fields.text("grammar"),
        logprobs=fields.whole("logprobs", 0, 20),
        settings=read_sampling(fields, ("max_tokens",)),
        stream=stream,
        include_usage=include_usage,
    )
    if ask.echo and ask.logprobs is not None:
        why = "echo and logprobs exclude each other: the prompt's are not computed"
        raise Refused(400, why, param="echo", code="unsupported_value")
    fields.done()
    return ask


def _prompts(fields: Fields) -> tuple[str, ...]:
    value = fields.any("prompt")
    if isinstance(value, list) and value and not isinstance(value[0], str):
        why = "prompt: give text; this server takes no token ids"
        raise Refused(400, why, param="prompt", code="unsupported_value")
    prompts = fields.texts("prompt", most=_MOST)
    if not prompts or not all(prompts):
        raise fields.refuse("prompt", "a string that is not empty, or a list of such")
    return prompts


async def completions(server: Server, request: Request) -> Response:
    """Continue a text."""
    began = time.perf_counter()
    ask = await server.read(request, read_completion)
    async with AsyncExitStack() as stack:

        async def begin() -> tuple[str, list[Answer]]:
            served = await stack.enter_async_context(server.work(ask.model))
            answers = [
                served.llama.generate_stream(prompt, **ask.arguments(i))
                for prompt in ask.prompts
                for i in range(ask.n)
            ]
            with server.beginning():
                for answer in answers:
                    await stack.enter_async_context(answer)
            return served.name, answers

        name, answers = await while_connected(request, begin)
        texts = _Texts(name, ask, answers, server.meters, began)
        if ask.stream:
            patience = server.settings.read_seconds
            return EventStream(texts.tell, texts.failed, stack.pop_all(), patience)
        return JSONResponse(await while_connected(request, texts.whole))
    raise AssertionError


class _Texts:
    """Answers, whole or as chunks."""

    def __init__(
        self, name: str, ask: CompletionAsk, answers: Sequence[Answer], meters: Meters, began: float
    ) -> None:
        self._meters = meters
        self._first = meters.first_token(began)
        self._ask = ask
        self._answers = answers
        id_ = f"cmpl-{os.urandom(16).hex()}"
        self._head: dict[str, Any] = {
            "id": id_,
            "object": "text_completion",
            "created": int(time.time()),
        }
        self._head |= {"model": name, "system_fingerprint": FINGERPRINT}

    async def whole(self) -> dict[str, Any]:
        results = [await answer.result() for answer in self._answers]
        for result in results:
            self._meters.answered(result)
        choices = [
            {
                "index": i,
                "text": self._echo(i) + result.text,
                "logprobs": _logprobs(result.logprobs),
                "finish_reason": checked_reason(result),
            }
            for i, result in enumerate(results)
        ]
        usage = self._usage(results)
        return {**self._head, "choices": choices, "usage": usage, **facts(results[0])}

    def _echo(self, index: int) -> str:
        return self._ask.prompts[index // self._ask.n] if self._ask.echo else ""

    def _usage(self, results: Sequence[Generation]) -> dict[str, Any]:
        """A prompt is counted once, however many answers it has."""
        n = self._ask.n
        each = [
            usage_record([result.usage for result in results[i : i + n]])
            for i in range(0, len(results), n)
        ]
        return _sum(each)

    async def tell(self, emit: Emit) -> None:
        results: list[Generation | None] = [None] * len(self._answers)

        async def one(index: int) -> None:
            results[index] = await self._one(emit, index)

        await side_by_side([partial(one, i) for i in range(len(self._answers))])
        done = [result for result in results if result is not None]
        if self._ask.include_usage:
            last: dict[str, Any] = {**self._head, "choices": [], "usage": self._usage(done)}
            await emit(event(to_json(last)))
        await emit(event("[DONE]"))

    async def _one(self, emit: Emit, index: int) -> Generation:
        head = to_json(self._head)[:-1]
        tail = ',"usage":null' if self._ask.include_usage else ""
        tail = f',"index":{index},"logprobs":null,"finish_reason":null}}]{tail}}}'

        async def say(text: str) -> None:
            await emit(event(f'{head},"choices":[{{"text":{to_json(text)}{tail}'))

        if echo := self._echo(index):
            await say(echo)
        answer = self._answers[index]
        async for text in answer:
            self._first()
            await say(text)
        result = await answer.result()
        self._meters.answered(result)
        choice = {
            "text": "",
            "index": index,
            "logprobs": _logprobs(result.logprobs),
            "finish_reason": checked_reason(result),
        }
        last: dict[str, Any] = {**self._head, "choices": [choice], **facts(result)}
        if self._ask.include_usage:
            last["usage"] = None
        await emit(event(to_json(last)))
        return result

    def failed(self, refused: Refused) -> bytes:
        return event(to_json(refused.record))


def _sum(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums of numbers with the same name."""
    return {
        name: _sum([one[name] for one in records])
        if isinstance(value, dict)
        else sum(one[name] for one in records)
        for name, value in records[0].items()
    }


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    """In the shape of before there were chats; ``content`` has it in that of chats, as llama-server does."""
    record = logprobs_record(tokens)
    if tokens is None or record is None:
        return None
    offsets: list[int] = []
    length = 0
    for token in tokens:
        offsets.append(length)
        length += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [max(token.logprob, -9999.0) for token in tokens],
        "top_logprobs": [
            {top.text: max(top.logprob, -9999.0) for top in token.top} for token in tokens
        ],
        "text_offset": offsets,
        "content": record["content"],
    }
