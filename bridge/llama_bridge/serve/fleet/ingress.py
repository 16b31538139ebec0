"""Takes requests from clients, and hands each to a replica. Runs without Ray, too."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..answering import event, to_json
from ..guard import Guard
from ..refusals import Refused, refusal
from ..settings import ServerSettings
from .asked import Asked
from .member import Begun

__all__ = ["Forwarded", "Ingress", "NoReplica", "ReplicaLost"]

Ask = Callable[[Asked], AsyncGenerator[Begun | bytes, None]]
"""Asks a replica that somebody chooses."""

_TRIES = 3
"""How many replicas a request is given to, if one after the other dies before it says anything."""

_log = logging.getLogger(__name__)


class ReplicaLost(Exception):
    """The replica that a request was given to is gone."""


class NoReplica(Exception):
    """No replica takes the request now."""


class Ingress:
    """An ASGI application that answers by asking replicas.

    A request whose replica dies before it says anything goes to another one. Afterwards the client is told in the stream that
    its answer is cut off: half of it cannot be taken back.

    Args:
        ask: asks a replica.
        settings: of the server.
    """

    def __init__(self, ask: Ask, settings: ServerSettings) -> None:
        self._ask = ask
        self._app: ASGIApp = Guard(self._forward, settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._app(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        except Refused as refused:  # too large, or too slow
            await refusal(refused)(scope, receive, send)
            return
        answer = _Answer(self._ask, Asked.of(scope, body), send)
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            refused_with = await answer.send()
            if refused_with is not None:
                await refusal(refused_with)(scope, receive, send)
            group.cancel_scope.cancel()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Answer:
    """One answer on its way to the client."""

    def __init__(self, ask: Ask, asked: Asked, send: Send) -> None:
        self._ask = ask
        self._asked = asked
        self._send = send
        self._begun: Begun | None = None

    async def send(self) -> Refused | None:
        """Send it; returns the refusal if nothing was sent."""
        for _ in range(_TRIES):
            try:
                async with aclosing(self._ask(self._asked)) as pieces:
                    async for piece in pieces:
                        await self._send(self._message(piece))
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                return None
            except ReplicaLost as error:
                _log.warning("a replica is gone: %s", error)
                if self._begun is not None:
                    await self._cut_off(self._begun)
                    return None
            except NoReplica as error:
                _log.warning("no replica takes a request: %s", error)
                return Refused(
                    503, "all replicas are busy", code="busy", headers={"Retry-After": "2"}
                )
        return Refused(503, "the replicas that were asked are gone: try again", code="replica_lost")

    def _message(self, piece: Begun | bytes) -> Message:
        if isinstance(piece, Begun):
            self._begun = piece
            head = {"type": "http.response.start", "status": piece.status}
            return {**head, "headers": piece.headers}
        return {"type": "http.response.body", "body": piece, "more_body": True}

    async def _cut_off(self, begun: Begun) -> None:
        """Tell in a stream of events that it ends here. Anything else ends without its end, which a client notices."""
        why = "the replica that made this answer is gone: ask again, the conversation goes on elsewhere"
        refused = Refused(503, why, code="replica_lost")
        if not dict(begun.headers).get(b"content-type", b"").startswith(b"text/event-stream"):
            raise ReplicaLost(why)
        data = event(to_json(refused.record))
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


class Forwarded(Response):
    """A response that an ASGI application makes."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make it."""
        await self._app(scope, receive, send)
