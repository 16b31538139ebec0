"""Ends calls into wasmtime that compute too long, by the epochs of their engine.

What counts is the time that the calling thread computes, where the system tells it: on a busy machine a harmless call
may wait for a second. One thread watches while there are calls, and ends a while after the last one: starting a thread
for each call would take longer than most calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Watch"]

_TICK = 0.05
_LINGER = 2.0
_WAITING = 10
"""How many times longer than it may compute a call may take, if its computing time is known."""


class Watch:
    """Watches the calls of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[object, _Call] = {}
        self._watching = False

    def begin(self, key: object, seconds: float, end: Callable[[], None]) -> None:
        """Watch a call of this thread: ``end`` is called once it has computed for so long."""
        call = _Call(seconds, end)
        with self._lock:
            self._calls[key] = call
            if not self._watching:
                # At the end of the interpreter no thread starts: chat.wasm counts steps, too.
                with suppress(RuntimeError):
                    threading.Thread(
                        target=self._watch, name="chat.wasm-deadlines", daemon=True
                    ).start()
                    self._watching = True

    def done(self, key: object) -> None:
        """The call has ended."""
        self._calls.pop(key, None)

    def _watch(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_TICK)
            with self._lock:
                if self._calls:
                    last = time.monotonic()
                elif time.monotonic() > last + _LINGER:
                    self._watching = False
                    return
                for call in list(self._calls.values()):
                    if call.is_over():
                        call.end()


class _Call:
    """A call in the thread that makes this."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self.end = end
        self._clock: int | None = None
        if hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._most = time.clock_gettime(self._clock) + seconds
            seconds *= _WAITING
        self._latest = time.monotonic() + seconds

    def is_over(self) -> bool:
        if time.monotonic() > self._latest:
            return True
        with suppress(OSError):  # the thread has ended meanwhile
            return self._clock is not None and time.clock_gettime(self._clock) > self._most
        return False
