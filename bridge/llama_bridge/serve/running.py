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

from ..checks import check_count
from ..errors import InvalidInput
from .protocol import PatientProtocol

__all__ = ["Application", "configured", "ignore_signals", "listen", "run"]

Application = ASGIApp


_LAST_PORT = 65535


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients; port 0 takes a free one.

    Raises:
        InvalidInput: the address cannot be used.
    """
    check_count("port", port)
    if port > _LAST_PORT:
        raise InvalidInput(f"port={port}: give a number up to {_LAST_PORT}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(f"host={host!r}, port={port}: {why}: give others") from error
    # asyncio turns TCP_NODELAY on where the socket says its protocol. Without it, events of a stream wait up to 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listener.detach())


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
        listener: see :func:`listen`. It is closed.
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
