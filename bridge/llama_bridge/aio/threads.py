"""The work is done in threads of the bridge's own, under asyncio and trio.

A task waits for an event, never for a lock. The thread that reads an answer runs a little ahead of its reader, so that
they need not take turns at every token.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, TypeVar, cast

import anyio
from anyio.lowlevel import checkpoint, current_token

from ..claim import CLAIM, Claim, GivenUp
from ..errors import EngineError
from .ways import END, End, Reading, SyncStream, Ways

__all__ = ["AHEAD", "Threads"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 32
"""How many items are computed before somebody reads them. An answer that is cancelled may be longer by these."""

_TOGETHER = 0.01
"""Items that come faster than this, in seconds, wake their reader together: waking a task costs some 100 µs."""

_THREADS = 1024
"""A thread is made only if all others are busy."""

_PATIENCE = 10.0
"""Seconds that a cancelled task waits for an answer that was told to end."""


class _Waiter:
    """What one task waits for, until any thread wakes it."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        loop = current_token().native_token
        # asyncio's event loop, or trio's token; a loop of trio ends only after its tasks
        soon = getattr(loop, "call_soon_threadsafe", None) or getattr(loop, "run_sync_soon")  # noqa: B009
        self._soon = cast("Callable[[Callable[[], None]], object]", soon)
        self.is_gone: Callable[[], bool] = getattr(loop, "is_closed", lambda: False)

    async def wait(self) -> None:
        await self._event.wait()

    def wake(self) -> bool:
        """Wake the task; False if its event loop is gone."""
        try:
            self._soon(self._event.set)
        except RuntimeError:
            return False
        return True


class Threads(Ways):
    """Runs work in threads. One is made only when all others are busy."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="llama-bridge")

    async def run(self, work: Callable[[], T], claim: Claim) -> T:
        """See :meth:`Ways.run`."""
        await checkpoint()
        waiter = _Waiter()
        context = copy_context()
        context.run(CLAIM.set, claim)
        future = self._pool.submit(context.run, work)
        future.add_done_callback(lambda _: waiter.wake())
        try:
            await waiter.wait()
        except GeneratorExit:  # the coroutine is closed, so nothing can be waited for
            claim.give_up()
            raise
        except BaseException:
            if not claim.give_up():
                with anyio.CancelScope(shield=True):
                    await waiter.wait()
            raise
        return future.result()

    def read(self, start: Callable[[], SyncStream[T, R]]) -> Reading[T, R]:
        """See :meth:`Ways.read`."""
        return _Ahead(self._pool, start)


class _Ahead(Reading[T, R], Generic[T, R]):
    """An answer that a thread reads a little ahead of the task.

    The thread goes when it is far enough ahead, and comes back when the task has caught up.
    """

    def __init__(self, pool: ThreadPoolExecutor, start: Callable[[], SyncStream[T, R]]) -> None:
        self._pool = pool
        self._start = start
        self._claim = Claim()
        self._stream: SyncStream[T, R] | None = None
        self._ended = False  # told to end
        self._closed = False  # with a coroutine that waited for it
        self._lock = threading.Lock()  # guards what follows; held for a few lines
        self._items: deque[T] = deque()
        self._ahead: float = 0  # how far the thread may run ahead
        self._busy = False  # whether there is a thread
        self._over = False  # whether everything was read
        self._error: BaseException | None = None
        self._readers: list[_Waiter] = []  # these wait for an item
        self._waiters: list[_Waiter] = []  # these wait until the thread has gone
        self._taken = 0  # items since the task last waited

    # the task

    async def start(self) -> None:
        """See :meth:`Reading.start`."""
        await self._until(lambda: self._stream is not None, 0)
        self._raise_error()

    async def next(self) -> T | End:
        """See :meth:`Reading.next`."""
        items = self._items
        if not items:
            await self._until(lambda: bool(items), AHEAD)
        elif self._taken >= AHEAD:  # others want the event loop too
            self._taken = 0
            await self._or_cancel(checkpoint)
        try:
            item = items.popleft()
        except IndexError:
            self._raise_error()
            return END
        self._taken += 1
        if len(items) < AHEAD // 2 and not self._busy:
            self._go_on(AHEAD)
        return item

    async def result(self) -> R:
        """See :meth:`Reading.result`."""
        await self._until(lambda: False, math.inf)
        self._items.clear()
        self._raise_error()
        if self._stream is None:
            raise EngineError("the answer was cancelled before it began, so there is no result")
        return self._stream.result

    async def close(self) -> None:
        """See :meth:`Reading.close`."""
        self.cancel()
        if self._closed:  # nobody can wait
            return
        if self._stream is None and not self._busy:
            self._over = True
        await self._until(lambda: False, math.inf)
        self._error = None

    def cancel(self) -> None:
        """See :meth:`Reading.cancel`."""
        self._ended = True
        if (stream := self._stream) is not None:
            stream.cancel()

    def drop(self) -> None:
        """See :meth:`Reading.drop`."""
        self._claim.give_up()
        self.cancel()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, GivenUp):
            error = EngineError("the answer was cancelled before it began")
        if error is not None:
            raise error

    async def _until(self, ready: Callable[[], bool], ahead: float) -> None:
        """Wait until it is ready or all is over, while the thread reads up to ``ahead`` items more."""
        while True:
            with self._lock:
                if self._over or ready():
                    return
                waiter = _Waiter()
                (self._readers if ahead == AHEAD else self._waiters).append(waiter)
            self._go_on(ahead)
            self._taken = 0
            await self._or_cancel(waiter.wait)

    async def _or_cancel(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait; if the task is cancelled meanwhile, the answer ends."""
        try:
            await wait()
        except GeneratorExit:  # as in Threads.run
            self._closed = True
            self.drop()
            raise
        except BaseException:
            self.cancel()
            if not self._claim.give_up():
                with anyio.move_on_after(_PATIENCE, shield=True):
                    while True:
                        with self._lock:
                            if not self._busy:
                                break
                            waiter = _Waiter()
                            self._waiters.append(waiter)
                        await waiter.wait()
            raise

    def _go_on(self, ahead: float) -> None:
        """See to it that a thread reads until it is ``ahead``."""
        with self._lock:
            self._ahead = max(self._ahead, ahead)
            if self._busy or self._over or (len(self._items) >= self._ahead and self._stream):
                return
            self._busy = True
        context = copy_context()
        context.run(CLAIM.set, self._claim)
        try:
            self._pool.submit(context.run, self._read)
        except BaseException:
            self._busy = False
            raise

    # the thread

    def _read(self) -> None:
        """Read until it is far enough ahead."""
        try:
            stream = self._stream
            if stream is None:
                stream = self._begin()
            woken = 0.0
            while len(self._items) < self._ahead:
                try:
                    item = next(stream)
                except StopIteration:
                    self._over = True
                    break
                self._items.append(item)
                if (now := time.perf_counter()) - woken > _TOGETHER:
                    woken = now
                    if not self._wake(self._readers) or self._is_left():
                        self.cancel()  # whoever wanted it is gone, with the event loop
        except BaseException as error:  # its reader gets it
            self._error = error
            self._over = True
        finally:
            with self._lock:
                self._busy = False
            heard = [self._wake(self._readers), self._wake(self._waiters)]
            if not all(heard):  # as above; it may have begun only now
                self.cancel()

    def _begin(self) -> SyncStream[T, R]:
        stream = self._start()
        self._claim.begin()  # if the runtime does not say when a call begins
        self._stream = stream
        if self._ended:
            stream.cancel()
        return stream

    def _is_left(self) -> bool:
        """Whether one that waits for the end is gone."""
        with self._lock:
            return any(waiter.is_gone() for waiter in self._waiters)

    def _wake(self, waiters: list[_Waiter]) -> bool:
        """Wake those that wait; False if one is gone."""
        with self._lock:
            woken = [*waiters]
            waiters.clear()
        return sum(waiter.wake() for waiter in woken) == len(woken)
