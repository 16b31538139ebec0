"""Waking threads that wait for something to change, with no lock that an interrupt could leave locked.

``threading.Condition`` is Python code: a ``KeyboardInterrupt`` between its lines keeps its lock for good.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

__all__ = ["Bell"]

_PATIENCE = 1.0
"""Seconds after which a waiting thread looks by itself."""


class Bell:
    """Rung after each change that somebody may wait for.

    Attributes:
        waiters: one lock, held, for each thread that waits.
    """

    def __init__(self) -> None:
        self.waiters: list[threading.Lock] = []

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready``, which is asked now, after each ring and now and then."""
        while not ready():
            waiter = threading.Lock()
            waiter.acquire()
            self.waiters.append(waiter)
            if not ready():  # it may have come since
                waiter.acquire(timeout=_PATIENCE)

    def ring(self) -> None:
        """Wake all that wait."""
        while self.waiters:
            with contextlib.suppress(IndexError, RuntimeError):  # another ringer was there first
                self.waiters.pop().release()
