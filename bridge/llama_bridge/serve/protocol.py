"""HTTP as uvicorn speaks it, with a limit on how long a client may take to send the head of a request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .refusals import Refused

__all__ = ["PatientProtocol"]

HEAD_SECONDS = 15.0
"""How long a connection may be open with no request at work."""


class PatientProtocol(H11Protocol):
    """Closes a connection on which no request begins in time. Without this, one that sends a byte now and then stays.

    uvicorn's own limit counts from the end of an answer, and any byte ends it.
    """

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the shape of all errors."""
        record = Refused(400, msg, code="invalid_http").record
        head = [(b"content-type", b"application/json"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=head, reason=b"Bad Request"),
            h11.Data(data=json.dumps(record).encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Something has arrived: the timer runs on as long as that is not a request."""
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.close()
