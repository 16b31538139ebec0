"""Prefill and decode speed, in alternation with the raw llama.cpp loop and llama-cpp-python's Llama."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from .contenders import Bridge, Contender, LlamaClass, RawLoop, Run, Setting, text_of
from .measure import interleave, ratio, spread
from .report import Report, times

__all__ = ["measure_speed"]

RAW, LLAMA = "raw llama.cpp loop", "llama-cpp-python Llama"


def measure_speed(
    report: Report,
    model: Path,
    label: str,
    backends: list[str],
    *,
    n_threads: int,
    rounds: int,
    n_prompt: int,
    n_decode: int,
) -> None:
    """One table for one model; the bounds on native decoding."""
    setting = Setting(model, n_ctx=n_prompt + n_decode + 64, n_threads=n_threads)
    with ExitStack() as opened:
        contenders: dict[str, Contender] = {}
        for backend in backends:
            bridge = Bridge(backend, setting)
            opened.callback(bridge.close)
            contenders[f"llama-bridge {backend}"] = bridge
            if backend == "native":
                contenders |= {
                    RAW: RawLoop(setting, bridge.weights),
                    LLAMA: LlamaClass(setting, bridge.weights),
                }
                opened.callback(contenders[RAW].close)
                opened.callback(contenders[LLAMA].close)
        prompt = text_of(n_prompt, lambda text: len(bridge.llama.tokenize(text)))
        tokens = bridge.llama.tokenize(prompt)

        def runner(contender: Contender) -> Callable[[], Run]:
            return lambda: contender.run(prompt, tokens, n_decode)

        runs = {name: runner(contender) for name, contender in contenders.items()}
        interleave(runs, 1, f"speed, {label}, warming up")
        found = interleave(runs, rounds, f"speed, {label}")
        threads = {
            name: c.llama.info.n_threads if isinstance(c, Bridge) else n_threads
            for name, c in contenders.items()
        }

    decode = {name: [speed.decode for speed in speeds] for name, speeds in found.items()}
    prefill = {name: [speed.prefill for speed in speeds] for name, speeds in found.items()}
    rows = []
    for name in found:
        row = [name, str(threads[name])]
        row += [f"{spread(values[name]).median:.1f}" for values in (prefill, decode)]
        if RAW in found:
            row += [times(ratio(values[name], values[RAW])) for values in (prefill, decode)]
        rows.append(row)
    columns = ["", "threads", "prefill t/s", "decode t/s"]
    columns += ["prefill / raw", "decode / raw"] if RAW in found else []
    report.table(
        f"Speed, {label}: prompt of {len(tokens)} tokens, {n_decode} decoded, {rounds} rounds",
        columns,
        rows,
        "Medians; ratios within a round, with quartiles.",
    )
    if RAW in found:
        own = decode["llama-bridge native"]
        raw, llama = ratio(own, decode[RAW]), ratio(own, decode[LLAMA])
        report.bound(
            f"native decode at least 0.97 of the raw loop ({label})",
            raw.median,
            raw.median >= 0.97,
            times(raw),
        )
        report.bound(
            f"native decode never below Llama ({label})",
            llama.median,
            llama.high >= 1.0,  # below it only if three rounds of four say so
            times(llama),
        )
