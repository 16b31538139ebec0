"""The command line of ``python -m tests.fuzz --models``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.models.runner import Report, fuzz_models

__all__ = ["main_of_models"]

_BACKENDS = ("native", "wasm")


def main_of_models(arguments: Sequence[str]) -> int:
    """Run it; 1 where something was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz --models", description="Hostile model files."
    )
    parser.add_argument("--count", type=int, default=50_000, help="how many (50000)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    parser.add_argument(
        "--backends", default=",".join(_BACKENDS), help="native, wasm (without the preflight)"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), help="what found something"
    )
    options = parser.parse_args(arguments)
    found = 0
    for backend in options.backends.split(","):
        report = fuzz_models(
            options.count,
            backend,
            seed=options.seed,
            first=options.first,
            preflight=backend != "wasm",
            keep=options.keep / backend,
            progress=_progress(),
        )
        found += len(report.problems)
        for outcome, n in report.outcomes.most_common():
            print(f"{n:8} {outcome}")
        print(
            f"{backend}: {report.files} models in {report.seconds:.0f} s, the slowest {report.slowest[0]:.2f} s, "
            f"peak memory {report.peak_mib} MiB above the start, {len(report.problems)} problems"
        )
    if found:
        print(f"kept in {options.keep}")
    return bool(found)


def _progress() -> Callable[[Report], None]:
    """Prints each problem when it is found, and a line for every thousand."""
    told = 0

    def progress(report: Report) -> None:
        nonlocal told
        for number, problem in report.problems[told:]:
            print(f"--- model {number}\n{problem}", flush=True)
        told = len(report.problems)
        if report.files % 1000 == 0:
            rate = report.files / report.seconds
            print(f"{report.files} models, {rate:.0f} a second, {told} problems", flush=True)

    return progress
