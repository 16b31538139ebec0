"""Runs the application with uvicorn until a signal ends it."""

from __future__ import annotations

import faulthandler
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

from .protocol import PatientProtocol

__all__ = ["Application", "configured", "ignore_signals", "run"]

Application = ASGIApp

_HANGUP = getattr(signal, "SIGHUP", None)  # of a terminal that is closed; Windows has none
_SIGNALS = (*HANDLED_SIGNALS, *((_HANGUP,) if _HANGUP is not None else ()))
_LAST = 10.0
"""Seconds that the process has after a second signal, in which sessions are written, and once all is written."""


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
    """Answer until SIGTERM, SIGHUP or Ctrl-C: then take no more requests, and finish those that there are.

    A second signal ends them, and 10 seconds later the process, whatever it does then. Signals stay caught until the process
    ends. Only for the main thread.

    Args:
        app: the application.
        listener: a socket that waits for clients. It is closed.
        grace: seconds that requests have at the end.
        ready: called when requests are answered.
    """
    _Server(configured(app, grace), ready).run(sockets=[listener])


def ignore_signals() -> None:
    """From now on the process ends by itself: Python lets go of its handlers while it ends, and a signal would kill it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _end_soon()  # a thread that is stuck would hold it for ever


def _end_soon() -> None:
    """If the process does not end by itself soon, end it, and tell what was stuck."""
    with suppress(RuntimeError, ValueError, OSError):  # there is no standard error
        faulthandler.dump_traceback_later(_LAST, exit=True)


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
        for number in _SIGNALS:
            if number != _HANGUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; the second time at once. A terminal that is closed may tell it twice: its signal is only a first one."""
        if self.should_exit and sig != _HANGUP and not self.force_exit:
            self.force_exit = True
            _end_soon()
        self.should_exit = True
