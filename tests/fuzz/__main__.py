"""Run it: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.runner import Report, fuzz


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

    def progress(report: Report) -> None:
        while len(told) < len(report.problems):
            number, problem = report.problems[len(told)]
            told.append(number)
            print(f"--- file {number}\n{problem}", flush=True)
        if report.files % 1000 == 0 and report.files != shown[-1]:
            shown.append(report.files)
            rate = report.files / report.seconds
            print(
                f"{report.files} files, {rate:.0f} a second, {len(report.problems)} problems",
                flush=True,
            )

    shown, told = [0], list[int]()
    report = fuzz(
        options.count,
        seed=options.seed,
        first=options.first,
        jobs=options.jobs,
        keep=options.keep,
        progress=progress,
    )
    for outcome, n in report.outcomes.most_common():
        print(f"{n:8} {outcome}")
    print(
        f"{report.files} files in {report.seconds:.0f} s, the slowest {report.slowest:.2f} s, "
        f"peak memory {report.peak_mib} MiB, {len(report.problems)} problems"
    )
    if report.problems:
        print(f"kept in {options.keep}")
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main())
