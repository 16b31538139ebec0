"""Answers that tasks read, and clients that leave: each ends its own answer, and no other."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import BridgeError
from .refusals import Refused, as_refused

__all__ = [
    "ClientGone",
    "Emit",
    "EventStream",
    "event",
    "side_by_side",
    "to_json",
    "while_connected",
]

T = TypeVar("T")

Emit = Callable[[bytes], Awaitable[None]]
"""Sends a piece of an answer."""

_LOOKS = 5.0
"""Seconds between two looks at whether a client still reads."""

_log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client has left. Nobody reads what is answered."""


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do some work, and cancel it when the client leaves. The request's body must have been read.

    Raises:
        ClientGone.
    """
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_until_gone, request.receive, group.cancel_scope)
        try:
            results.append(await work())
        except Exception as error:  # the group would wrap it
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientGone
    return results[0]


async def side_by_side(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do several things at once; the first error ends all."""
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except Exception as error:  # the group would wrap it
                errors.append(error)
                group.cancel_scope.cancel()

        for work in works:
            group.start_soon(run, work)
    if errors:
        raise errors[0]


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def event(data: str, name: str = "") -> bytes:
    """A server-sent event. The data must be one line."""
    return f"event: {name}\ndata: {data}\n\n".encode() if name else f"data: {data}\n\n".encode()


class EventStream(Response):
    """Server-sent events, as they are made. A client that leaves, or stops reading, ends the making.

    Args:
        tell: sends the events.
        failed: the events that tell an error.
        held: what is given back at the end.
        patience: seconds that a client may read nothing.
    """

    def __init__(
        self,
        tell: Callable[[Emit], Awaitable[None]],
        failed: Callable[[Refused], bytes],
        held: AsyncExitStack,
        patience: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._tell = tell
        self._failed = failed
        self._held = held
        self._patience = patience
        self._sending: float | None = None  # since when
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # no proxy collects them
        self.init_headers({"content-type": "text/event-stream; charset=utf-8", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with self._held, anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            group.start_soon(self._until_stalled, group.cancel_scope)
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})

            async def emit(data: bytes) -> None:
                self._sending = anyio.current_time()
                await send({"type": "http.response.body", "body": data, "more_body": True})
                self._sending = None

            await self._told(emit)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()

    async def _told(self, emit: Emit) -> None:
        """Send the events; an error is one of them, because the status has been sent."""
        try:
            await self._tell(emit)
            return
        except Refused as error:
            refused = error
        except BridgeError as error:
            refused = as_refused(error)
            if refused.status == 500:
                _log.error("an answer failed: %s", error, exc_info=error)
        except Exception as error:
            refused = Refused(500, "the server failed, and its log says why")
            _log.error("an answer failed: %s", type(error).__name__, exc_info=error)
        await emit(self._failed(refused))

    async def _until_stalled(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(min(_LOOKS, self._patience))
            since = self._sending
            if since is not None and anyio.current_time() - since > self._patience:
                scope.cancel()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: Any) -> str:
    """A value as JSON in one line."""
    return _encode(value)
