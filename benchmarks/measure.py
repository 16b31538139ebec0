"""Alternating rounds, medians, and ratios within a round."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

__all__ = ["Spread", "alternate", "interleave", "machine", "ratio", "seconds", "spread"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the quartiles around it."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of some measurements."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, middle, high)


def ratio(these: Sequence[float], those: Sequence[float]) -> Spread:
    """These divided by those, round by round: what slows both at once cancels out."""
    return spread([a / b for a, b in zip(these, those, strict=True)])


def alternate(
    contenders: Mapping[str, Callable[[], _T]], rounds: int, what: str
) -> dict[str, list[_T]]:
    """Run each contender once per round, in another order each time; return their results by round."""
    results: dict[str, list[_T]] = {name: [] for name in contenders}
    for order in _orders(list(contenders), rounds, what):
        for name in order:
            results[name].append(contenders[name]())
    return results


def interleave(
    contenders: Mapping[str, Callable[[], Generator[None, None, _T]]], rounds: int, what: str
) -> dict[str, list[_T]]:
    """As :func:`alternate`, but they also take turns within a round: a slice each until all are done.

    So if the machine is slow for half a second, it slows all of them.
    """
    results: dict[str, list[_T]] = {name: [] for name in contenders}
    for order in _orders(list(contenders), rounds, what):
        running = {name: contenders[name]() for name in order}
        while running:
            for name in list(running):
                try:
                    next(running[name])
                except StopIteration as stop:
                    results[name].append(stop.value)
                    del running[name]
    return results


def _orders(names: list[str], rounds: int, what: str) -> Iterator[list[str]]:
    for turn in range(rounds):
        print(f"{what}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        shift = turn % len(names)
        order = names[shift:] + names[:shift]
        yield order if turn // len(names) % 2 == 0 else order[::-1]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def machine() -> dict[str, str]:
    """The machine and its load."""
    found = {
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
    }
    for package in ("llama-cpp-python", "wasmtime"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    if hasattr(os, "getloadavg"):
        found["load"] = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
