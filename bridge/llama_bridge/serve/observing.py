"""What is seen of requests from outside: a line in the log, an id in the answer, numbers for ``/metrics``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Observer", "Seen"]

Seen = Callable[[str, str, int, float], None]
"""Told of each request: method, path, status and seconds."""

_log = logging.getLogger(__name__)


class Observer:
    """ASGI middleware: notes each request, but nothing of what it says."""

    def __init__(self, app: ASGIApp, seen: Seen) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        request_id = f"req_{os.urandom(12).hex()}"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            took = time.perf_counter() - began
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            _log.info(
                "%s %r %d in %.3f s %s", scope["method"], path[:200], status, took, request_id
            )
            self._seen(scope["method"], path, status, took)
