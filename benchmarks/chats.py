"""chat.wasm: how long templates take to render, and answers to read, for forms of chat that models really have."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from llama_bridge import (
    ChatPrompt,
    ChatStream,
    Generation,
    Mode,
    PendingAnswer,
    Prompt,
    TextDelta,
    Usage,
)
from llama_bridge.chat.module.guest import ChatGuest
from llama_bridge.chat.module.host import new_host
from tools.random_model.templates import templates

from .measure import Spread, spread
from .report import Report, ms

__all__ = ["measure_chats"]

_MODELS = (
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "meta-llama-Llama-3.2-3B-Instruct",
    "openai-gpt-oss-120b",
    "google-gemma-2-2b-it",
    "GLM-4.6",
    "LFM2-8B-A1B",
)
_TOKENS = 500
_WORD = " word"


class _Words(PendingAnswer):
    """An answer that costs nothing."""

    def __init__(self) -> None:
        self._left = _TOKENS

    def read(self) -> str | None:
        self._left -= 1
        return _WORD if self._left >= 0 else None

    def end(self) -> None:
        self._left = 0

    @property
    def generation(self) -> Generation:
        usage = Usage(0, 0, 0, _TOKENS, 0.0, 0.0)
        return Generation(_WORD * _TOKENS, "stop", Mode.FRESH, usage)


def measure_chats(report: Report, *, rounds: int) -> None:
    """Start, render and read, in processor time of the thread, with bounds."""
    new_host().close()  # compiled from here on
    start = _measured(lambda: new_host().close(), rounds)
    rows: list[list[str]] = []
    plain: list[Spread] = []
    tools: list[Spread] = []
    token: list[float] = []
    for name in _MODELS:
        guest = ChatGuest(templates()[name], "<s>", "</s>")
        long = {"messages": _messages(20)}
        short = {"messages": _messages(0), "tools": [_tool(i) for i in range(5)]}
        plain.append(_measured(partial(guest.prompt, long), rounds))
        tools.append(_measured(partial(_render, guest, short), rounds))
        reader = guest.render(short).reader
        reader.read("", partial=True)  # loaded from here on
        stream = ChatStream(_Words(), ChatPrompt(Prompt(), reader), ())
        clock = time.thread_time()
        read = sum(len(event.text) for event in stream if isinstance(event, TextDelta))
        token.append((time.thread_time() - clock) / _TOKENS)
        assert read >= _TOKENS * len(_WORD) - 1 or not read  # gpt-oss writes no words alone
        rows.append([name, ms(plain[-1]), ms(tools[-1]), f"{token[-1] * 1e3:.3f}"])
    report.table(
        f"Chats in chat.wasm, {rounds} rounds; another instance takes {ms(start)} ms",
        ["", "41 messages, ms", "five tools, ms", f"read, ms a token of {_TOKENS}"],
        rows,
        "Processor time of the thread.",
    )
    slowest = max(plain, key=lambda one: one.median)
    report.bound("41 messages render in 3 ms", slowest.median, slowest.median < 0.003, ms(slowest))
    slowest = max(tools, key=lambda one: one.median)
    report.bound("five tools render in 15 ms", slowest.median, slowest.median < 0.015, ms(slowest))
    report.bound(
        "a token is read in 0.1 ms",
        max(token),
        max(token) < 0.0001,
        f"{max(token) * 1e3:.3f} ms",
    )


def _render(guest: ChatGuest, request: dict[str, Any]) -> None:
    guest.render(request).reader.close()


def _measured(work: Callable[[], object], rounds: int) -> Spread:
    work()
    found: list[float] = []
    for _ in range(max(5, 2 * rounds)):
        clock = time.thread_time()
        work()
        found.append(time.thread_time() - clock)
    return spread(found)


def _messages(turns: int) -> list[dict[str, str]]:
    said = [{"role": "user", "content": "First. " + "lorem ipsum " * 40}]
    for i in range(turns):
        said.append({"role": "assistant", "content": "Answer " * 60})
        said.append({"role": "user", "content": f"Question {i}: " + "lorem ipsum " * 40})
    return said


def _tool(number: int) -> dict[str, Any]:
    properties = {
        "city": {"type": "string", "description": "which"},
        "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["C", "F"]},
    }
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    function = {
        "name": f"tool_{number}",
        "description": "Weather of a place",
        "parameters": parameters,
    }
    return {"type": "function", "function": function}
