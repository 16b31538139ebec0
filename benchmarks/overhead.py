"""The cost of a token beyond the engine's own work: the public stream against bare engine calls."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_bridge import SamplingParams

from .contenders import Bridge, Setting, text_of
from .inside import engine_of
from .measure import spread
from .report import Report

__all__ = ["measure_overhead"]

_BOUNDS = {"native": 40, "wasm": 60}  # µs a token
_PROMPT, _TOKENS = 64, 128


def measure_overhead(
    report: Report, model: Path, backends: list[str], *, n_threads: int, rounds: int
) -> None:
    """A row and a bound per backend, in one context: two contexts have different addresses."""
    rows = []
    for backend in backends:
        bridge = Bridge(backend, Setting(model, 512, n_threads))
        prompt, tokens = _prompt(bridge)
        streamed, bare = [], []
        for turn in range(rounds):
            print(f"overhead, {backend}: round {turn + 1}", file=sys.stderr, flush=True)
            streamed.append(_stream(bridge, prompt, tokens))
            bare.append(_calls(bridge, tokens))
        bridge.close()
        added = spread([1e6 * (a - b) for a, b in zip(streamed, bare, strict=True)])
        rows.append(
            [
                backend,
                *(f"{1e6 * spread(t).median:.0f}" for t in (streamed, bare)),
                f"{added.median:.1f} ({added.low:.1f} to {added.high:.1f})",
            ]
        )
        most = _BOUNDS.get(backend)
        if most is not None:
            shown = f"{added.median:.1f} µs"
            report.bound(
                f"{backend} adds at most {most} µs a token",
                added.median,
                added.median <= most,
                shown,
            )
    report.table(
        f"Overhead: {_TOKENS} tokens, {rounds} rounds",
        ["", "stream, µs a token", "engine's calls", "added"],
        rows,
        "Medians, one after the other in one context.",
    )


def _prompt(bridge: Bridge) -> tuple[str, list[int]]:
    prompt = text_of(_PROMPT, lambda text: len(bridge.llama.tokenize(text)))
    return prompt, bridge.llama.tokenize(prompt)


def _stream(bridge: Bridge, prompt: str, tokens: list[int]) -> float:
    run = bridge.run(prompt, tokens, _TOKENS)
    while True:
        try:
            next(run)
        except StopIteration as end:
            return 1 / float(end.value.decode)


def _calls(bridge: Bridge, tokens: list[int]) -> float:
    engine: Any = engine_of(bridge.llama)
    bridge.llama.session_reset()
    engine.decode(tokens)
    engine.set_sampler(SamplingParams(temperature=0), 0, [])
    step = _bare_step(engine)
    token = engine.sample()
    clock = time.perf_counter()
    for _ in range(_TOKENS):
        token = step(token)
    found = (time.perf_counter() - clock) / _TOKENS
    engine.clear()
    return found


def _bare_step(engine: Any) -> Callable[[int], int]:
    """Decode and sample, with nothing in between but the call into the engine."""
    if hasattr(engine, "guest"):
        call = engine.guest.call
        return lambda token: int(call("lb_step", 0, token))
    from llama_bridge_native.library import lib

    context, sampler = engine.context, engine._sampler
    batch, place = engine._one.given, engine._one.tokens

    def step(token: int) -> int:
        place[0] = token
        lib.llama_decode(context, batch)
        return int(lib.llama_sampler_sample(sampler, context, -1))

    return step
