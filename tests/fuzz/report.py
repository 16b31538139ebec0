"""What a run of either fuzzer found, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Report", "tell", "telling"]


@dataclass
class Report:
    """What a run found.

    Attributes:
        files: how many were tried.
        outcomes: how many of each: an error's name, ``"used"``, ``"accepted"``, ``"problem"``, ``"crash"``, ``"hang"``.
        examples: for each outcome the numbers of the first files that had it.
        problems: number of the file and what went wrong.
        peak_mib: the most memory that a child had; for models, above what it began with.
        slowest: seconds of the slowest file.
        seconds: of the whole run, preparation included.
    """

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    problems: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    peak_mib: int = 0
    slowest: float = 0.0
    seconds: float = 0.0


def telling() -> Callable[[Report], None]:
    """Prints each problem when it is found, and a line for every thousand files."""
    told = last = 0

    def progress(report: Report) -> None:
        nonlocal told, last
        for number, problem in report.problems[told:]:
            print(f"--- file {number}\n{problem}", flush=True)
        told = len(report.problems)
        if report.files // 1000 > last:
            last = report.files // 1000
            rate = report.files / report.seconds
            print(f"{report.files} files, {rate:.0f} a second, {told} problems", flush=True)

    return progress


def tell(report: Report, what: str) -> None:
    """Print a whole run."""
    for outcome, n in report.outcomes.most_common():
        numbers = ", ".join(map(str, report.examples.get(outcome, ())))
        print(f"{n:8} {outcome}" + (f" (such as file {numbers})" if numbers else ""))
    print(
        f"{what}: {report.files} files in {report.seconds:.0f} s, the slowest {report.slowest:.2f} s, "
        f"peak memory {report.peak_mib} MiB, {len(report.problems)} problems"
    )
