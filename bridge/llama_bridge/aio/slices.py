"""The work is done in the event loop's own thread, in slices: for a page, where Python has no other thread.

Between two slices the loop runs, so that the page's worker hears messages and other tasks go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from ..claim import CLAIM, Claim
from ..errors import EngineError
from .ways import END, End, Reading, SyncStream, Ways

__all__ = ["Slices"]

T = TypeVar("T")
R = TypeVar("R")

_SLICE = 0.008
"""Seconds of work after which the event loop runs."""


class Slices(Ways):
    """Runs work in slices."""

    def __init__(self) -> None:
        self._unread: WeakSet[_Pieces[Any, Any]] = (
            WeakSet()
        )  # answers that have begun and not ended
        self._breath = 0.0  # when the event loop last ran
        self._working = asyncio.Lock()

    async def run(self, work: Callable[[], T], claim: Claim) -> T:
        """See :meth:`Ways.run`. The work itself is one slice; answers that it has to wait for are more."""
        await self.breathe()
        while unread := [reading for reading in self._unread if not reading.over]:
            unread[0].compute()
            await self.breathe()
        # A browser may suspend Python in the middle of it: what other tasks begin then waits, not for a thread's lock.
        async with self._working:
            token = CLAIM.set(claim)
            try:
                return work()
            finally:
                CLAIM.reset(token)

    def read(self, start: Callable[[], SyncStream[T, R]]) -> Reading[T, R]:
        """See :meth:`Ways.read`."""
        return _Pieces(self, start)

    async def breathe(self) -> None:
        """Let the event loop run, if it has not for a while."""
        if time.perf_counter() - self._breath > _SLICE:
            await asyncio.sleep(0)
            self._breath = time.perf_counter()

    def begun(self, reading: _Pieces[Any, Any]) -> None:
        """An answer has begun: whoever wants the engine next computes its rest first, in slices too."""
        self._unread.add(reading)


class _Pieces(Reading[T, R], Generic[T, R]):
    """An answer that is computed when a task wants some of it.

    Attributes:
        over: whether all of it was computed.
    """

    def __init__(self, ways: Slices, start: Callable[[], SyncStream[T, R]]) -> None:
        self.over = False
        self._ways = ways
        self._start = start
        self._stream: SyncStream[T, R] | None = None
        self._ended = False
        self._items: deque[T] = deque()
        self._error: BaseException | None = None

    async def start(self) -> None:
        """See :meth:`Reading.start`."""
        if self._stream is None and not self.over:
            self._stream = await self._ways.run(self._start, Claim())
            self._ways.begun(self)
            if self._ended:
                self._stream.cancel()

    async def next(self) -> T | End:
        """See :meth:`Reading.next`."""
        await self._until(lambda: bool(self._items))
        if self._items:
            return self._items.popleft()
        self._raise_error()
        return END

    async def result(self) -> R:
        """See :meth:`Reading.result`."""
        await self._until(lambda: False)
        self._items.clear()
        self._raise_error()
        if self._stream is None:
            raise EngineError("the answer was cancelled before it began, so there is no result")
        return self._stream.result

    async def close(self) -> None:
        """See :meth:`Reading.close`."""
        self.cancel()
        if self._stream is None:
            self.over = True
        await self._until(lambda: False)
        self._error = None

    def cancel(self) -> None:
        """See :meth:`Reading.cancel`."""
        self._ended = True
        if self._stream is not None:
            self._stream.cancel()

    def drop(self) -> None:
        """See :meth:`Reading.drop`."""
        self.cancel()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Compute until it is ready or all is over, with breaths in between."""
        try:
            await self.start()
            while True:
                await self._ways.breathe()
                if self.over or ready():
                    return
                self.compute()
        except BaseException:
            self.cancel()
            while not self.over and self._stream is not None:  # it only has to stop
                self.compute()
            raise

    def compute(self) -> None:
        """Compute the next item, or a piece of the prompt."""
        assert self._stream is not None
        try:
            item = self._poll()
            if item is None:
                self.over = True
            elif item != "":
                self._items.append(item)
        except BaseException as error:  # its reader gets it
            self._error = error
            self.over = True
            if not isinstance(error, Exception):
                raise

    def _poll(self) -> T | None:
        """The next item; None at the end. A stream that can be polled also gives "" in between."""
        stream: Any = self._stream
        if hasattr(stream, "poll"):
            found: T | None = stream.poll()
            return found
        return next(stream, None)
