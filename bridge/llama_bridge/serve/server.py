"""What all requests share."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..errors import Busy
from .response_store import ResponseStore
from .served import Models, Served
from .settings import ServerSettings

__all__ = ["Server"]


class Server:
    """Models and settings, and a bound on how many requests are at work.

    Attributes:
        models: answer.
        responses: those that requests may go on from.
        settings: of the owner.
        created: when the server started, in seconds since 1970.
        at_work: how many requests are answered or wait.
    """

    def __init__(self, models: Models, settings: ServerSettings, responses: ResponseStore) -> None:
        self.models = models
        self.responses = responses
        self.settings = settings
        self.created = int(time.time())
        self.at_work = 0

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

    def seen(self, method: str, path: str, status: int, seconds: float) -> None:
        """Told of each request."""
