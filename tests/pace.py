"""How long work takes on an idle machine, told on one that is slow or busy.

A bound in seconds fails where three test workers share two cores: each takes
two or three times as long there. So the work is timed in turn with a piece of
Python whose time on an idle machine is known. That piece fills memory with
words, as most of the work does: what only adds numbers is hardly slowed by
neighbours that fill the caches, and words take twice as long beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

CLOCK = getattr(time, "thread_time", time.perf_counter)
"""Seconds that this thread computed. A page has no such clock."""
_YARDSTICK = 3e-3
"""Seconds that `_yardstick` takes on an idle desktop."""


def idle_seconds(work: Callable[[], object], times: int = 5) -> float:
    """Seconds that this thread computes in `work` at best, at the pace of an idle desktop."""
    best = float("inf")
    for _ in range(times):
        before, took, after = _timed(_yardstick), _timed(work), _timed(_yardstick)
        best = min(best, took / max(1.0, (before + after) / 2 / _YARDSTICK))
    return best


def _timed(work: Callable[[], object]) -> float:
    start = CLOCK()
    work()
    return float(CLOCK() - start)


def _yardstick() -> None:
    assert len({str(i): i for i in range(20_000)}) == 20_000
