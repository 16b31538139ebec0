"""The command line of ``python -m tests.fuzz --models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.models.runner import fuzz_models
from tests.fuzz.report import tell, telling

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
            progress=telling(),
        )
        found += len(report.problems)
        tell(report, backend)
    if found:
        print(f"kept in {options.keep}")
    return bool(found)
