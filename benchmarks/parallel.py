"""Many callers of one model at once, beside a raw loop over llama.cpp that decodes the same sequences in one batch."""

from __future__ import annotations

import ctypes
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llama_bridge import LlamaBridge, ModelParams, SamplingParams

from .contenders import Setting, text_of
from .inside import engine_of
from .measure import alternate, ratio, spread
from .report import Report, times

__all__ = ["Crowd", "measure_parallel", "prompts_of", "say"]

_RAW_SHARE = 0.95
_WASM_GAIN = 1.8
_LONG_PROMPT = 2048
_NEWCOMER = 1.3
"""A newcomer's time to its first token, beside somebody's long prefill: its own prefill times this, plus two chunks."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What some callers at once got.

    Attributes:
        rate: tokens of all per second, from the first call to the last token.
        first: seconds to the first token of each.
        decoding: tokens of all per second, once all have begun.
    """

    rate: float
    first: list[float]
    decoding: float


def measure_parallel(
    report: Report,
    model: Path,
    label: str,
    backends: list[str],
    *,
    n_threads: int,
    rounds: int,
    callers: list[int],
    n_prompt: int,
    n_decode: int,
    long_prompt: int = _LONG_PROMPT,
) -> None:
    """A table for each backend, and the bounds."""
    most = max(callers)
    n_ctx = max(most * (n_prompt + n_decode + 16), long_prompt + 2 * n_prompt + n_decode)
    for backend in backends:
        with ExitStack() as opened:
            params = ModelParams(n_ctx=n_ctx, n_threads=n_threads, n_parallel=most)
            llama = opened.enter_context(LlamaBridge(model, backend=backend, params=params))
            prompts = prompts_of(llama, most, n_prompt)
            contenders: dict[str, Callable[[], Crowd]] = {
                f"{n}": partial(_ask, llama, prompts[:n], n_decode) for n in callers
            }
            if backend == "native":
                raw = _Raw(llama, Setting(model, n_ctx, n_threads), most)
                opened.callback(raw.close)
                tokens = [llama.tokenize(prompt) for prompt in prompts]
                contenders |= {f"raw {n}": partial(raw.run, tokens[:n], n_decode) for n in callers}
            found = alternate(contenders, rounds, f"parallel, {backend}, {label}")
            _tell(report, label, backend, callers, found, llama.info.n_threads)
            _newcomer(report, llama, backend, n_prompt, long_prompt, rounds)


def prompts_of(llama: LlamaBridge, n: int, n_tokens: int) -> list[str]:
    """Texts of that many tokens, none of which begins like another."""
    return [
        f"{i} " + text_of(n_tokens - 2, lambda text, i=i: len(llama.tokenize(f"{i} {text}")) - 2)  # type: ignore[misc]
        for i in range(10, 10 + n)
    ]


def _ask(llama: LlamaBridge, prompts: list[str], n_decode: int) -> Crowd:
    llama.session_reset()
    _forget(llama)
    greedy = SamplingParams(temperature=0, max_tokens=n_decode)

    def read(prompt: str, heard: Callable[[], None]) -> int:
        stream = llama.generate_stream(prompt, sampling=greedy, chat=False)
        for _ in stream:
            heard()
        return stream.result.usage.completion_tokens

    return say([partial(read, prompt) for prompt in prompts], n_decode)


def say(readers: list[Callable[[Callable[[], None]], int]], n_decode: int) -> Crowd:
    """Let all read at once, each in a thread. They call what they get when they hear something, and return their tokens."""
    first = [0.0] * len(readers)
    counts = [0] * len(readers)

    def read(i: int) -> None:
        def heard() -> None:
            first[i] = first[i] or time.perf_counter() - clock

        counts[i] = readers[i](heard)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(readers))]
    clock = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - clock
    if counts != [n_decode] * len(readers):
        raise RuntimeError(f"not all were answered in full: {counts}")
    decoding = (sum(counts) - len(counts)) / (seconds - max(first))
    return Crowd(sum(counts) / seconds, first, decoding)


def _forget(llama: LlamaBridge) -> None:
    """Empty the whole cache, so that no prompt is in it."""
    for sequence in engine_of(llama).sequences:
        sequence.clear()
    pool: Any = llama._shared.alive()
    pool._pool.check()
    for seat in pool._pool.seats:
        seat.active.reset()


class _Raw:
    """The tightest loop over llama.cpp in Python: one batch for each step, one call for each drawn token."""

    def __init__(self, llama: LlamaBridge, setting: Setting, most: int) -> None:
        from llama_bridge_native.batch import Batch
        from llama_bridge_native.library import lib

        self.lib: Any = lib
        options = lib.llama_context_default_params()
        options.n_ctx = setting.n_ctx
        options.n_batch = options.n_ubatch = setting.n_batch
        options.n_threads = options.n_threads_batch = setting.n_threads
        options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        options.n_seq_max = most
        options.kv_unified = True
        weights = vars(engine_of(llama))["_model"]
        self.context: Any = lib.llama_init_from_model(weights, options)
        self._memory = lib.llama_get_memory(self.context)
        self._sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_greedy())
        self._batch = Batch(setting.n_batch)

    def run(self, prompts: list[list[int]], n: int) -> Crowd:
        """Nothing but llama_decode and llama_sampler_sample."""
        lib, context, sampler, batch = self.lib, self.context, self._sampler, self._batch
        lib.llama_memory_clear(self._memory, True)
        sample, decode = lib.llama_sampler_sample, lib.llama_decode
        drawn = [0] * len(prompts)
        clock = time.perf_counter()
        room = len(batch.tokens)
        at = 0
        while at < len(prompts):
            some = list(range(at, len(prompts)))
            while sum(len(prompts[i]) for i in some) > room:
                some.pop()
            rows = batch.fill([(i, array("i", prompts[i])) for i in some])
            decode(context, batch.given)
            for i, row in zip(some, rows, strict=True):
                drawn[i] = sample(sampler, context, row)
            at += len(some)
        first = time.perf_counter() - clock
        batch.fill([(i, array("i", [0])) for i in range(len(prompts))])
        tokens = (ctypes.c_int32 * room).from_buffer(batch.tokens)
        for _ in range(n - 1):
            for i, token in enumerate(drawn):
                tokens[i] = token
            decode(context, batch.given)
            drawn = [sample(sampler, context, row) for row in range(len(drawn))]
        seconds, most = time.perf_counter() - clock, len(prompts)
        return Crowd(n * most / seconds, [first] * most, (n - 1) * most / (seconds - first))

    def close(self) -> None:
        """Free context and sampler."""
        self.lib.llama_sampler_free(self._sampler)
        self.lib.llama_free(self.context)


def _tell(
    report: Report,
    label: str,
    backend: str,
    callers: list[int],
    found: dict[str, list[Crowd]],
    n_threads: int,
) -> None:
    rates = {name: [one.rate for one in crowds] for name, crowds in found.items()}
    one = rates[f"{callers[0]}"]
    rows: list[list[str]] = []
    for n in callers:
        crowds, rate = found[f"{n}"], rates[f"{n}"]
        median = spread([sorted(crowd.first)[n // 2] for crowd in crowds]).median
        worst = spread([max(crowd.first) for crowd in crowds]).median
        row = [
            f"{n}",
            f"{spread(rate).median:,.1f}",
            times(ratio(rate, one)),
            f"{1000 * median:,.0f}",
            f"{1000 * worst:,.0f}",
            f"{spread([crowd.decoding for crowd in crowds]).median:,.1f}",
        ]
        if f"raw {n}" in rates:
            share = ratio(rate, rates[f"raw {n}"])
            decoding = spread([crowd.decoding for crowd in found[f"raw {n}"]]).median
            row += [f"{spread(rates[f'raw {n}']).median:,.1f}", times(share), f"{decoding:,.1f}"]
            if n >= 8:
                promise = f"{n} callers on native get at least {_RAW_SHARE} of a raw batched loop, {label}"
                report.bound(promise, share.median, share.median >= _RAW_SHARE, times(share))
        if backend == "wasm" and n == 8:
            gain = ratio(rate, one)
            promise = (
                f"8 callers on wasm get at least {_WASM_GAIN} times the tokens of one, {label}"
            )
            report.bound(promise, gain.median, gain.median >= _WASM_GAIN, times(gain))
        rows.append(row)
    columns = ["callers", "tokens/s of all", "of one", "first token, ms", "worst, ms", "decoding"]
    if backend == "native":
        columns += ["raw batched loop", "share of raw", "raw decoding"]
    report.table(
        f"Parallel, {backend}, {label}: {n_threads} threads",
        columns,
        rows,
        "From the call to the last token, prompts included; decoding: after all have begun. Medians; ratios within a round, "
        "with quartiles.",
    )


def _newcomer(
    report: Report, llama: LlamaBridge, backend: str, n_prompt: int, long_prompt: int, rounds: int
) -> None:
    """How long a newcomer waits for its first token while another caller's long prompt is evaluated."""
    short, long = prompts_of(llama, 1, n_prompt)[0], prompts_of(llama, 2, long_prompt)[1]
    one = SamplingParams(temperature=0, max_tokens=1)

    def alone(prompt: str) -> float:
        _forget(llama)
        clock = time.perf_counter()
        llama.generate(prompt, sampling=one, chat=False)
        return time.perf_counter() - clock

    def beside() -> float:
        _forget(llama)
        other = threading.Thread(
            target=llama.generate, args=(long,), kwargs={"sampling": one, "chat": False}
        )
        other.start()
        time.sleep(0.3 * chunk)
        clock = time.perf_counter()
        llama.generate(short, sampling=one, chat=False)
        seconds = time.perf_counter() - clock
        other.join()
        return seconds

    chunk = alone(long) * llama.info.n_batch / long_prompt
    calls: dict[str, Callable[[], float]] = {"alone": partial(alone, short), "beside": beside}
    found = alternate(calls, rounds, "newcomer")
    allowed = [_NEWCOMER * seconds + 2 * chunk for seconds in found["alone"]]
    share = ratio(found["beside"], allowed)
    report.bound(
        f"beside a prefill of {long_prompt} tokens a newcomer waits at most {_NEWCOMER} of its own and two chunks, {backend}",
        share.median,
        share.median <= 1,
        f"{times(share)} of the {1000 * spread(allowed).median:,.0f} ms allowed",
    )
