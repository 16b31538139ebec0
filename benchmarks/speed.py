"""Prefill and decode speed, alternating with the raw llama.cpp loop and llama-cpp-python's Llama."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .contenders import Bridge, Contender, LlamaClass, RawLoop, Setting, Speed, text_of
from .measure import Spread, interleave, ratio, spread
from .report import Report, times

__all__ = ["measure_speed"]

_WASM_BOUNDS = {
    ("q4_0", 1): {"prefill": 0.65, "decode": 0.9},
    ("q8_0", 1): {"prefill": 0.65, "decode": 0.9},
    ("q4_0", 2): {"prefill": 0.6, "decode": 0.9},
    ("q8_0", 2): {"prefill": 0.6, "decode": 0.9},
    ("q4_k_m", 1): {"prefill": 0.55, "decode": 0.85},
    ("q4_k_m", 2): {"prefill": 0.55, "decode": 0.85},
    ("f16", 1): {"prefill": 0.5, "decode": 0.85},
}
"""Share of the raw native loop with as many threads, by the last word of a model's label and the threads."""
_LONG = 512
RAW, LLAMA = "raw llama.cpp loop", "llama-cpp-python Llama"


def measure_speed(
    report: Report,
    model: Path,
    label: str,
    backends: list[str],
    *,
    has_native: bool,
    n_threads: int,
    rounds: int,
    n_prompt: int,
    n_decode: int,
) -> None:
    """One table for one model, and the bounds on native decoding.

    Each backend is compared separately, with the raw loop if ``has_native``. Native is fast, so it runs more rounds.
    """
    setting = Setting(model, n_ctx=n_prompt + n_decode + 64, n_threads=n_threads)
    rows: list[list[str]] = []
    with ExitStack() as opened:
        names = [*dict.fromkeys([*backends, "native"])] if has_native else backends
        bridges = {backend: Bridge(backend, setting) for backend in names}
        for bridge in bridges.values():
            opened.callback(bridge.close)
        llama = bridges[backends[0]].llama
        prompt = text_of(n_prompt, lambda text: len(llama.tokenize(text)))
        tokens = llama.tokenize(prompt)
        yardsticks: dict[str, Contender] = {}
        if "native" in bridges:
            weights = bridges["native"].weights
            yardsticks = {RAW: RawLoop(setting, weights), LLAMA: LlamaClass(setting, weights)}
            for yardstick in yardsticks.values():
                opened.callback(yardstick.close)
        for backend in backends:
            bridge = bridges[backend]
            own, native = f"llama-bridge {backend}", backend == "native"
            race: dict[str, Contender] = {own: bridge}
            race |= {name: c for name, c in yardsticks.items() if native or name == RAW}
            found = _race(race, prompt, tokens, n_decode, 2 * rounds if native else rounds, label)
            shown = found if native else [own]
            rows += [_row(name, bridge.llama.info.n_threads, found) for name in shown]
            if native:
                _judge(report, label, found)
            elif RAW in found:
                _judge_wasm(report, label, n_threads, len(tokens), found[own], found[RAW])
    columns = ["", "threads", "prefill t/s", "decode t/s", "prefill / raw", "decode / raw"]
    report.table(
        f"Speed, {label}: prompt of {len(tokens)} tokens, {n_decode} decoded, {rounds} rounds, native {2 * rounds}",
        columns if yardsticks else columns[:4],
        rows,
        "Medians; ratios within a round, with quartiles.",
    )


def _race(
    contenders: dict[str, Contender],
    prompt: str,
    tokens: list[int],
    n_decode: int,
    rounds: int,
    label: str,
) -> dict[str, list[Speed]]:
    runs = {
        name: partial(contender.run, prompt, tokens, n_decode)
        for name, contender in contenders.items()
    }
    what = f"speed, {label}, {next(iter(runs))}"
    interleave(runs, 1, f"{what}, warming up")
    return interleave(runs, rounds, what)


def _row(name: str, n_threads: int, found: dict[str, list[Speed]]) -> list[str]:
    row = [name, str(n_threads)]
    kinds = ("prefill", "decode")
    row += [f"{spread([getattr(s, kind) for s in found[name]]).median:.1f}" for kind in kinds]
    return row + [times(_ratio(found, kind, name, RAW)) for kind in kinds if RAW in found]


def _ratio(found: dict[str, list[Speed]], kind: str, these: str, those: str) -> Spread:
    return ratio(
        [getattr(speed, kind) for speed in found[these]],
        [getattr(speed, kind) for speed in found[those]],
    )


def _judge_wasm(
    report: Report,
    label: str,
    n_threads: int,
    n_prompt: int,
    ours: list[Speed],
    raw: list[Speed],
) -> None:
    bounds = [_WASM_BOUNDS.get((label.split()[-1], n_threads), {})]
    label += f", {n_threads} threads" if n_threads > 1 else ""
    label += f", {n_prompt:,} tokens" if n_prompt > _LONG else ""
    for kind, least in (pair for bound in bounds for pair in bound.items()):
        measured = ratio([getattr(s, kind) for s in ours], [getattr(s, kind) for s in raw])
        report.bound(
            f"wasm {kind} at least {least:g} of the raw native loop ({label})",
            measured.median,
            measured.median >= least,
            times(measured),
        )


def _judge(report: Report, label: str, found: dict[str, list[Speed]]) -> None:
    raw = _ratio(found, "decode", "llama-bridge native", RAW)
    llama = _ratio(found, "decode", "llama-bridge native", LLAMA)
    report.bound(
        f"native decode at least 0.97 of the raw loop ({label})",
        raw.median,
        raw.median >= 0.97,
        times(raw),
    )
    report.bound(
        f"native decode never below Llama ({label})",
        llama.median,
        llama.high >= 1.0,  # missed only if three rounds of four are below
        times(llama),
    )
