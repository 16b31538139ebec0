"""The only module here that imports ``js`` and ``pyodide``: what a page has in place of threads.

Where the browser can suspend Python (JSPI), work beside its reader is a task of the event loop, and who waits for it is
suspended. Elsewhere nothing goes on beside: who waits does the work.
"""

# Both exist only in Pyodide, and are untyped.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import js as _js  # type: ignore[import-not-found]
import pyodide.ffi as _ffi  # type: ignore[import-not-found]

from llama_bridge.errors import BackendUnavailable

__all__ = ["JsException", "Mailbox", "Signal", "can_wait", "js", "new", "start", "to_js", "wait"]

T = TypeVar("T")

js: Any = _js
to_js: Any = _ffi.to_js
_run_sync: Any = _ffi.run_sync
_can_run_sync: Any = _ffi.can_run_sync
JsException: type[Exception] = _ffi.JsException

_later: deque[Callable[[], object]] = deque()
_tasks: set[asyncio.Future[None]] = set()


def new(kind: Any, *args: Any) -> Any:
    """``new kind(...args)`` in JavaScript."""
    return kind.new(*args)


def can_wait() -> bool:
    """Whether the browser can suspend Python here."""
    return bool(_can_run_sync())


def wait(awaitable: Awaitable[T]) -> T:
    """Suspend Python until the result is there, and return it."""
    return cast("T", _run_sync(awaitable))


def start(work: Callable[[], object]) -> bool:
    """Do some work beside the caller, or when somebody waits for it; whether it goes on beside."""
    if not can_wait():
        _later.append(work)
        return False

    async def task() -> None:
        work()

    found = asyncio.ensure_future(task())
    _tasks.add(found)  # the loop alone does not keep it
    found.add_done_callback(_tasks.discard)
    return True


class Signal:
    """``threading.Event`` for a page."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def set(self) -> None:
        """Set it: all who wait go on."""
        self._set = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def clear(self) -> None:
        """Let those who come now wait again."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for some seconds; whether it is.

        Raises:
            BackendUnavailable: nothing can set it while this call waits.
        """
        if self._set:
            return True
        if not can_wait():
            return self._wait_alone(timeout)
        waiting: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self._waiting.add(waiting)
        try:
            wait(asyncio.wait((waiting,), timeout=timeout))
        finally:
            self._waiting.discard(waiting)
        return self._set

    def _wait_alone(self, timeout: float | None) -> bool:
        while _later and not self._set:
            _later.popleft()()
        if not self._set:
            if timeout is None:
                raise BackendUnavailable(
                    "remote",
                    "this call cannot wait for an answer that another call has begun: the browser cannot suspend Python here",
                    "make both calls from runPythonAsync, in a browser with JSPI",
                )
            time.sleep(timeout)
        return self._set


class Mailbox(Generic[T]):
    """``queue.SimpleQueue`` for a page."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._filled = Signal()

    def put(self, item: T) -> None:
        """Put something in."""
        self._items.append(item)
        self._filled.set()

    def get(self, timeout: float | None = None) -> T:
        """Take out what was put in first; wait for it if need be.

        Raises:
            queue.Empty: nothing came in so many seconds.
            BackendUnavailable: as in :meth:`Signal.wait`.
        """
        while not self._items:
            self._filled.clear()
            if not self._filled.wait(timeout):
                raise queue.Empty
        return self._items.popleft()
