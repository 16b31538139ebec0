"""Runs the application with uvicorn until a signal ends it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

from .protocol import PatientProtocol

__all__ = ["Application", "configured", "ignore_signals", "run"]

Application = ASGIApp


def configured(app: ASGIApp, grace: int) -> uvicorn.Config:
    """How uvicorn runs the application; ``grace`` is how many seconds requests have at the end."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace,
    )


def run(
    app: ASGIApp, listener: socket.socket, *, grace: int, ready: Callable[[], None] = lambda: None
) -> None:
    """Answer until SIGTERM or Ctrl-C: then take no more requests, and finish those that there are.

    A second signal ends them. Signals stay caught until the process ends. Only for the main thread.

    Args:
        app: the application.
        listener: a socket that waits for clients. It is closed.
        grace: seconds that requests have at the end.
        ready: called when requests are answered.
    """
    _Server(configured(app, grace), ready).run(sockets=[listener])


def ignore_signals() -> None:
    """From now on the process ends by itself: Python lets go of its handlers while it ends, and a signal would kill it."""
    for number in HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the way to end it, so none is a failure: uvicorn would raise them again.

        They stay caught, so that none interrupts what comes after: the sessions are written.
        """
        for number in HANDLED_SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; the second time at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
