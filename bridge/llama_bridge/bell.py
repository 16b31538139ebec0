"""Wakes threads that wait for a change, without a lock that an interrupt could leave locked.

``threading.Condition`` is Python code: a ``KeyboardInterrupt`` between its lines leaves its lock held for ever.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
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

    def wait(self, ready: Callable[[], bool], seconds: float = math.inf) -> None:
        """Wait until ``ready`` returns True, or the time is up. It is called now, after each ring and from time to time."""
        end = time.monotonic() + seconds
        while not ready() and (left := end - time.monotonic()) > 0:
            waiter = threading.Lock()
            waiter.acquire()
            self.waiters.append(waiter)
            if not ready():  # it may be ready by now
                waiter.acquire(timeout=min(left, _PATIENCE))
            with contextlib.suppress(ValueError):  # rung, so it is gone
                self.waiters.remove(waiter)

    def ring(self) -> None:
        """Wake all waiting threads."""
        while self.waiters:
            with contextlib.suppress(IndexError, RuntimeError):  # another ring was faster
                self.waiters.pop().release()
