"""Wakes threads that wait for a change, without a lock that an interrupt could leave locked.

``threading.Condition`` is Python code: a ``KeyboardInterrupt`` between its lines leaves its lock held for ever.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

__all__ = ["Bell"]

_PATIENCE = 1.0
"""Seconds after which a waiting thread checks without a ring."""


class Bell:
    """Rung after each change that a thread may wait for.

    Attributes:
        waiters: one held lock for each waiting thread.
    """

    def __init__(self) -> None:
        self.waiters: list[threading.Lock] = []

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready`` returns True. It is called now, after each ring and from time to time."""
        while not ready():
            waiter = threading.Lock()
            waiter.acquire()
            self.waiters.append(waiter)
            if not ready():  # it may be ready by now
                waiter.acquire(timeout=_PATIENCE)

    def ring(self) -> None:
        """Wake all waiting threads."""
        while self.waiters:
            with contextlib.suppress(IndexError, RuntimeError):  # another ring was faster
                self.waiters.pop().release()
