"""Tells how far something is that a thread does, as server-sent events; a client that leaves ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from starlette.responses import Response

from ..errors import BridgeError, Cancelled
from ..progress import OnProgress, Progress
from .answering import Emit, EventStream, event, to_json
from .refusals import Refused

__all__ = ["in_words", "steps"]

_OFTEN = 0.1
"""Seconds between two events."""


def steps(work: Callable[[OnProgress], Awaitable[dict[str, Any]]], patience: float) -> Response:
    """Do something, and tell how far it is; the last event is its result, or ``{"error": ...}``.

    Args:
        work: does it, in a thread, and tells it.
        patience: seconds that a client may read nothing.
    """

    async def tell(emit: Emit) -> None:
        teller = _Teller(emit)
        results: list[dict[str, Any]] = []
        errors: list[Exception] = []
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(teller.run)
                try:
                    results.append(await work(teller.step))
                except Exception as error:  # the group would wrap it
                    errors.append(error)
                group.cancel_scope.cancel()
        finally:
            teller.left = True
        if errors:
            raise in_words(errors[0]) from errors[0]
        await emit(event(to_json(results[0])))

    def failed(refused: Refused) -> bytes:
        return event(to_json(refused.record))

    return EventStream(tell, failed, AsyncExitStack(), patience)


def in_words(error: Exception) -> Exception:
    """What the owner of this machine is told of an error of the library: all of it, with paths and the way out."""
    return Refused(400, str(error)) if isinstance(error, BridgeError) else error


class _Teller:
    """Hands on what a thread tells, a few times a second.

    Attributes:
        left: whether nobody wants it any more.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._now: Progress | None = None
        self.left = False

    def step(self, progress: Progress) -> None:
        """The progress, told by the thread.

        Raises:
            Cancelled: nobody wants it any more.
        """
        if self.left:
            raise Cancelled("it was stopped")
        self._now = progress

    async def run(self) -> None:
        """Hand it on, until this is cancelled."""
        told: Progress | None = None
        while True:
            now = self._now
            if now is not None and now != told:
                told = now
                total = now.total if now.done <= now.total and now.unit == "bytes" else None
                doing = {"doing": now.stage, "done": now.done, "total": total}
                await self._emit(event(to_json(doing)))
            await anyio.sleep(_OFTEN)
