"""What all requests share."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request

from ..capabilities import Capability
from ..checks import shown
from ..errors import Busy
from .answering import ClientGone
from .fields import Fields, read_body
from .kept_responses import Responses
from .metrics import Meters
from .refusals import Refused
from .served import Models, Served
from .settings import ServerSettings

__all__ = ["Server"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_AT_ONCE = 1 << 16
"""A body of so many bytes is read in a millisecond or two."""


class Server:
    """Models and settings, and a bound on how many requests are at work.

    Attributes:
        models: answer.
        responses: those that requests may go on from.
        settings: of the owner.
        meters: count.
        paths: the addresses that are answered.
        created: when the server started, in seconds since 1970.
        at_work: how many requests are answered or wait.
        waiting: how many of them wait for their answer to begin.
    """

    def __init__(self, models: Models, settings: ServerSettings, responses: Responses) -> None:
        self.models = models
        self.responses = responses
        self.settings = settings
        self.created = int(time.time())
        self.paths: frozenset[str] = frozenset()
        self.at_work = self.waiting = 0
        self.meters = Meters(
            at_work=lambda: self.at_work,
            waiting=lambda: self.waiting,
            kept=lambda: len(responses),
            failures=lambda: responses.failures,
            loaded=lambda: len(models.loaded()),
            cached=lambda: sum(served.llama.n_cached for served in _talking(models)),
            room=lambda: sum(served.llama.info.n_ctx for served in _talking(models)),
        )

    async def read(self, request: Request, read: Callable[[Fields], T]) -> T:
        """What a request asks for, read from the fields of its body.

        Raises:
            Refused: by ``read``, or it is no JSON object, is compressed, too large, or came too slowly.
            ClientGone: the client has left before all was here.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            message = f"Content-Encoding: {shown(encoding)}: send the body as it is"
            raise Refused(415, message, code="unsupported_encoding")
        try:
            body = await request.body()
        except ClientDisconnect:
            raise ClientGone from None
        if self.settings.log_prompts:
            _log.info("%s asked: %s", request.url.path, body.decode("utf-8", "replace"))
        if len(body) <= _AT_ONCE:
            return read(read_body(body))
        # A second of work, perhaps: the other streams go on meanwhile.
        return await to_thread.run_sync(lambda: read(read_body(body)))

    @asynccontextmanager
    async def work(self, model: str | None) -> AsyncGenerator[Served, None]:
        """A model, for one request's work.

        Raises:
            Busy: too many requests are at work.
            Refused, ModelError: see :meth:`Models.borrow`.
        """
        if self.at_work >= self.settings.max_requests:
            raise Busy(self.at_work)
        self.at_work += 1
        try:
            async with self.models.borrow(model) as served:
                yield served
        finally:
            self.at_work -= 1

    @contextmanager
    def beginning(self) -> Generator[None, None, None]:
        """A request waits for its answer to begin."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def seen(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request has ended."""
        self.meters.seen(path if path in self.paths else "other", status, seconds)


def _talking(models: Models) -> list[Served]:
    """The loaded models that have a KV cache."""
    return [
        served for served in models.loaded() if Capability.GENERATE in served.llama.capabilities
    ]
