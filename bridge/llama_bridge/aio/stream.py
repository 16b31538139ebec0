"""AsyncStream: an answer in progress, for a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..checks import NotCopied
from ..showing import LiveText
from .ways import END, SyncStream, Ways

__all__ = ["AsyncStream"]

T = TypeVar("T")
R = TypeVar("R")


class _Reader(NotCopied, Generic[T, R]):
    """Owns what is read; no user makes one."""

    def __init__(self, ways: Ways, start: Callable[[], SyncStream[T, R]]) -> None:
        self._reading = ways.read(start)

    def __del__(self) -> None:
        if hasattr(self, "_reading"):
            self._reading.drop()


class AsyncStream(_Reader[T, R], AsyncIterator[T]):
    """The items of an answer while it is generated: texts, or the events of a chat.

    ``async for text in stream`` reads it, ``await stream.result()`` gives the whole answer, and so does ``await
    stream`` itself. It starts when it is first awaited, in one of these ways or by ``async with stream:``; errors that
    can be known in advance are raised there.

    A stream that is left half read blocks nobody, as with :class:`TextStream`. It is computed a little ahead of its
    reader, 32 texts at most. The answer ends when the task is cancelled that waits for it, with :meth:`close`,
    :meth:`cancel` and the end of an ``async with`` block, and when the stream is dropped. What was said stays in the
    conversation: all that was read, and those few texts that were computed and not read.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._reading.next()
        if item is END:
            raise StopAsyncIteration
        return item

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self) -> R:
        """The whole answer. Reads the rest of the stream first.

        Raises:
            EngineError: the generation failed; the cause is chained.
        """
        return await self._reading.result()

    async def show(self) -> None:
        """Show the items while they are generated: in a notebook in one place, elsewhere on standard output.

        Reads the whole stream, or what is left of it; :meth:`result` has the answer then.

        Raises:
            EngineError: the generation failed.
        """
        live = LiveText()
        try:
            async for item in self:
                live.add(item)
        except BaseException:
            live.end()
            raise
        live.end(await self.result())

    async def close(self) -> None:
        """End the answer here. ``result`` is then what was said so far, or the failure. Closing twice does nothing."""
        await self._reading.close()

    def cancel(self) -> None:
        """End this answer soon. Works from any task and thread, and waits for nothing."""
        self._reading.cancel()

    async def __aenter__(self) -> Self:
        await self._reading.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
