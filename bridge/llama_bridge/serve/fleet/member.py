"""One server of a fleet: a model, and the application that answers with it. Runs without Ray, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.types import Message

from ...aio import AsyncLlamaBridge
from ...errors import ClosedError
from ..app import application
from ..kept_responses import replica_mark
from ..served import OneModel
from ..shared_responses import SharedResponses, StoreBounds
from ..stores import open_store
from .asked import Asked
from .settings import FleetSettings

__all__ = ["Begun", "Member"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """How an answer begins; what follows are pieces of its body.

    Attributes:
        status: HTTP's.
        headers: of the answer.
    """

    status: int
    headers: list[tuple[bytes, bytes]]


class Member:
    """A server of a fleet, from :meth:`begin` to :meth:`end`.

    Args:
        settings: of the fleet.
        replica: its name, which no other has.
    """

    def __init__(self, settings: FleetSettings, replica: str) -> None:
        self._settings = settings
        self._replica = replica
        self._app: Starlette | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Load the model, and start what runs beside the answers.

        Raises:
            BridgeError: the settings, the store or the model cannot be used.
        """
        settings = self._settings
        server = settings.server
        bounds = StoreBounds(
            settings.max_responses, int(settings.store_gb * 1e9), settings.store_seconds
        )
        store = await asyncio.to_thread(open_store, settings.store)
        mark = replica_mark(self._replica)
        responses = await asyncio.to_thread(SharedResponses, store, mark, bounds)
        llama = AsyncLlamaBridge(settings.model, **settings.bridge)
        try:
            await llama
        except BaseException:
            responses.close()
            raise
        app = application(OneModel(llama, [settings.name]), server, responses)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(app, llama, begun))
        await begun

    async def _live(
        self, app: Starlette, llama: AsyncLlamaBridge, begun: asyncio.Future[None]
    ) -> None:
        """Begins and ends in one task, as cancel scopes must."""
        try:
            async with llama, app.router.lifespan_context(app):
                self._app = app
                begun.set_result(None)
                await self._ended.wait()
                self._app = None
        except Exception as error:
            if begun.done():
                raise
            begun.set_exception(error)

    async def end(self) -> None:
        """Write what is to be kept, and free the model."""
        self._ended.set()
        if self._life is not None:
            await self._life

    def check_health(self) -> None:
        """See whether it can answer.

        Raises:
            ClosedError: no more.
        """
        if self._app is None or self._life is None or self._life.done():
            raise ClosedError("this replica has ended")

    async def answer(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        """Answer a request. Whoever closes this before its end has left, which ends the answer.

        Raises:
            ClosedError: the replica has ended.
        """
        if (app := self._app) is None:
            raise ClosedError("this replica has ended")
        sent: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=64)
        gone = asyncio.Event()
        body: bytes | None = asked.body

        async def receive() -> Message:
            nonlocal body
            if body is not None:
                given, body = body, None
                return {"type": "http.request", "body": given, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await app(
                    {**asked.scope, "app": app, "asgi": {"version": "3.0"}}, receive, sent.put
                )
            finally:
                with contextlib.suppress(asyncio.QueueFull):  # full: then it is read on
                    sent.put_nowait(None)

        task = asyncio.create_task(run())
        try:
            async for piece in _pieces(sent, task):
                yield piece
            await task
        finally:
            gone.set()
            if not task.done():
                await _until_over(task)


async def _pieces(
    sent: asyncio.Queue[Message | None], task: asyncio.Task[None]
) -> AsyncGenerator[Begun | bytes, None]:
    """What an application sends; pieces that have come meanwhile are one."""
    while not (task.done() and sent.empty()):
        message = await sent.get()
        data = bytearray()
        while message is not None:
            if message["type"] == "http.response.start":
                yield Begun(
                    message["status"], [(bytes(n), bytes(v)) for n, v in message["headers"]]
                )
            else:
                data += message.get("body", b"")
            if sent.empty():
                break
            message = sent.get_nowait()
        if data:
            yield bytes(data)
        if message is None:
            return


_LEAVES = 1.0
"""Seconds that an answer has to end once its client has left."""


async def _until_over(task: asyncio.Task[None]) -> None:
    """Let an answer that nobody reads end by itself, as it does when a client leaves; after a while, make it."""
    done, _ = await asyncio.wait([task], timeout=_LEAVES)
    if not done:
        task.cancel()
        await asyncio.wait([task])
