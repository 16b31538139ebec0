"""Run it: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.report import tell, telling
from tests.fuzz.runner import fuzz


def main() -> int:
    """The command line; 1 where something was found."""
    if "--models" in sys.argv[1:]:
        from tests.fuzz.models.command import main_of_models  # the other imports load both engines

        return main_of_models([word for word in sys.argv[1:] if word != "--models"])
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Hostile session files; with --models, hostile model files.",
    )
    parser.add_argument("--count", type=int, default=100_000, help="how many (100000)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), help="what found something"
    )
    options = parser.parse_args()

    report = fuzz(
        options.count,
        seed=options.seed,
        first=options.first,
        jobs=options.jobs,
        keep=options.keep,
        progress=telling(),
    )
    tell(report, "session files")
    if report.problems:
        print(f"kept in {options.keep}")
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main())
