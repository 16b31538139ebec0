"""What a task pays: the asynchronous stream beside the synchronous one, on the same bridge."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from llama_bridge import AsyncLlamaBridge, LlamaBridge, SamplingParams
from llama_bridge.testing import FakeLlama

from .contenders import text_of
from .measure import alternate, ratio, spread
from .report import Report

__all__ = ["measure_tasks"]

_BOUND = 1.03
_PROMPT, _TOKENS = 16, 192


def measure_tasks(
    report: Report, model: Path, backends: list[str], *, n_threads: int, rounds: int
) -> None:
    """A row per backend and one for the fake, whose tokens cost nothing; a bound per backend."""
    rows = []
    for backend in backends:
        with LlamaBridge(model, backend=backend, n_ctx=512, n_threads=n_threads) as llama:
            row, worst = _row(llama, backend, rounds)
        rows.append(row)
        promise = f"an asynchronous stream is at most 3 % slower on {backend}"
        report.bound(promise, worst, worst <= _BOUND, f"{100 * (worst - 1):+.1f} %")
    with FakeLlama("x" * _TOKENS) as fake:
        rows.append(_row(fake, "fake, no engine", rounds)[0])
    report.table(
        f"Async: answers of {_TOKENS} tokens, {rounds} rounds",
        ["", "stream, µs a token", "asyncio", "trio", "await generate()"],
        rows,
        "The first column is synchronous; the others relative to it, by round: medians and quartiles.",
    )


def _row(llama: LlamaBridge, name: str, rounds: int) -> tuple[list[str], float]:
    prompt = text_of(_PROMPT, lambda text: len(llama.tokenize(text)))
    settings = SamplingParams(max_tokens=_TOKENS, temperature=0)
    bridge = AsyncLlamaBridge.of(llama)

    def alone() -> float:
        clock = time.perf_counter()
        for _ in llama.generate_stream(prompt, sampling=settings, chat=False):
            pass
        return time.perf_counter() - clock

    async def streaming() -> float:
        clock = time.perf_counter()
        async for _ in bridge.generate_stream(prompt, sampling=settings, chat=False):
            pass
        return time.perf_counter() - clock

    async def generating() -> float:
        clock = time.perf_counter()
        await bridge.generate(prompt, sampling=settings, chat=False)
        return time.perf_counter() - clock

    def on_trio() -> float:
        import trio

        return trio.run(streaming)

    alone()
    taken = alternate(
        {
            "sync": alone,
            "asyncio": lambda: asyncio.run(streaming()),
            "trio": on_trio,
            "generate": lambda: asyncio.run(generating()),
        },
        rounds,
        f"async, {name}",
    )
    against = {other: ratio(taken[other], taken["sync"]) for other in list(taken)[1:]}
    cells = [f"{r.median:.3f} ({r.low:.3f} to {r.high:.3f})" for r in against.values()]
    per_token = f"{1e6 * spread(taken['sync']).median / _TOKENS:.0f}"
    return [name, per_token, *cells], max(against["asyncio"].median, against["trio"].median)
