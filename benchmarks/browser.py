"""``python -m benchmarks.browser``: llama.wasm in Chromium, against wllama there and against wasmtime here.

All use the same number of threads, model, prompt and greedy sampling, and take turns. wllama comes from npm.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from playwright.sync_api import Page, sync_playwright

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from tools.browser import fetch
from tools.browser.browsers import find
from tools.browser.server import CSP, serve
from tools.browser.site import lay_out

from .contenders import text_of
from .measure import Spread, alternate, machine, ratio, spread
from .models import find_models
from .report import Report

_PAGES = Path(__file__).parent / "pages"
_OURS, _WASMTIME, _WLLAMA = "llama.wasm in Chromium", "llama.wasm in wasmtime", "wllama in Chromium"
_MIB = 1 << 20
_UNTIL_SETTLED = 3
"""Prompts after which a page keeps to one form of its kernels."""


@dataclass(frozen=True)
class _Run:
    """Tokens per second."""

    prefill: float
    decode: float


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="only check that it runs, with a tiny model"
    )
    parser.add_argument("--model", default="q4_0", help="as for python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of every contender (default: 1)"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if a bound is missed"
    )
    return parser.parse_args()


def main() -> int:
    """Run the benchmarks and return the exit status."""
    given = _options()
    chromium = find("chromium")
    if chromium is None:
        print("Chromium is not installed; on Debian: apt-get install chromium", file=sys.stderr)
        return 2
    ((label, model),) = find_models(None if given.quick else [given.model], given.quick).items()
    n_prompt, n = (32, 8) if given.quick else (128, 32)
    rounds = 2 if given.quick else given.rounds
    report = Report(machine())
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory()))
        lay_out(folder, extra=[_PAGES], compiled=True)
        os.symlink(model, folder / "model.gguf")
        os.symlink(fetch.node_modules() / "@wllama" / "wllama" / "esm", folder / "wllama")
        strict = opened.enter_context(serve(folder, csp=CSP))
        loose = opened.enter_context(serve(folder, csp=""))  # wllama starts its worker from a blob
        browser = opened.enter_context(sync_playwright()).chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"]
        )
        ours, theirs = browser.new_page(), browser.new_page()
        ours.goto(f"{strict}ours.html")
        theirs.goto(f"{loose}wllama.html")
        n_ctx = n_prompt + n + 64
        llama = opened.enter_context(
            LlamaBridge(
                model, backend="wasm", params=ModelParams(n_ctx=n_ctx, n_threads=given.threads)
            )
        )
        prompt = text_of(n_prompt, lambda text: len(llama.tokenize(text)))
        loaded = _ask(ours, "load", "model.gguf", n_ctx, given.threads)
        others = _ask(theirs, "load", "model.gguf", n_ctx, given.threads)
        if {loaded["threads"], others["threads"], llama.info.n_threads} != {given.threads}:
            print(f"not all contenders have the {given.threads} threads asked for", file=sys.stderr)
            return 2
        for _ in range(_UNTIL_SETTLED):
            _page_run(ours, prompt, 1)
        found = alternate(
            {
                _OURS: lambda: _page_run(ours, prompt, n),
                _WASMTIME: lambda: _desktop_run(llama, prompt, n),
                _WLLAMA: lambda: _page_run(theirs, prompt, n),
            },
            rounds,
            "browser",
        )
        form = _ask(ours, "about")["version"].rpartition(" ")[2]
        first = [cast("float", ours.evaluate("first()")) for _ in range(rounds)]
        browser.close()
    rows = [
        [name, *(_shown(runs, kind) for kind in ("prefill", "decode"))]
        for name, runs in found.items()
    ]
    report.table(
        f"Browser, {label}, prompt {n_prompt}, {n} generated, {given.threads} threads, {rounds} rounds, {form} in Chromium",
        ["", "prefill, tokens/s", "decode, tokens/s"],
        rows,
    )
    for kind, one, more_threads in (("prefill", 25.0, 15.0), ("decode", 12.0, 8.0)):
        times = one if given.threads == 1 else more_threads
        _bound(report, f"{kind}: {_OURS} / wllama", times, _ratio(found, kind, _WLLAMA))
        _bound(report, f"{kind}: {_OURS} / wasmtime", 0.9, _ratio(found, kind, _WASMTIME))
    more = (loaded["memory"] - model.stat().st_size) / _MIB
    report.bound(
        "linear memory and Pyodide's at most model + 200 MiB",
        more,
        more <= 200,
        f"model + {more:.0f} MiB",
    )
    wait = spread(first)
    report.bound(
        "first token of the demo model at most 0.7 s after Pyodide's start",
        wait.median,
        wait.median <= 0.7,
        f"{wait.median:.2f} s ({wait.low:.2f} to {wait.high:.2f})",
    )
    print("Bounds" + (" (of a tiny model: they mean nothing)" if given.quick else ""))
    for bound in report.bounds:
        print(f"  {bound}")
    return 1 if given.check and report.missed else 0


def _ask(page: Page, name: str, *args: object) -> dict[str, Any]:
    answer = page.evaluate(f"(args) => {name}(...args)", list(args))
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return cast("dict[str, Any]", answer)


def _page_run(page: Page, prompt: str, n: int) -> _Run:
    found = _ask(page, "run", prompt, n)
    return _Run(found["n_prompt"] / found["prompt_seconds"], found["n"] / found["seconds"])


def _desktop_run(llama: LlamaBridge, prompt: str, n: int) -> _Run:
    params = SamplingParams(temperature=0, max_tokens=n)
    llama.session_reset()  # or the prompt would still be in the KV cache
    usage = llama.generate(prompt, sampling=params, chat=False).usage
    return _Run(
        usage.evaluated_tokens / usage.prompt_seconds,
        usage.completion_tokens / usage.completion_seconds,
    )


def _shown(runs: list[_Run], kind: str) -> str:
    found = spread([getattr(run, kind) for run in runs])
    return f"{found.median:.1f} ({found.low:.1f} to {found.high:.1f})"


def _ratio(found: dict[str, list[_Run]], kind: str, other: str) -> Spread:
    speed: Callable[[_Run], float] = lambda run: getattr(run, kind)  # noqa: E731
    return ratio([*map(speed, found[_OURS])], [*map(speed, found[other])])


def _bound(report: Report, promise: str, least: float, measured: Spread) -> None:
    report.bound(
        f"{promise} at least {least:g}",
        measured.median,
        measured.median >= least,
        f"{measured.median:.2f} ({measured.low:.2f} to {measured.high:.2f})",
    )


if __name__ == "__main__":
    sys.exit(main())
