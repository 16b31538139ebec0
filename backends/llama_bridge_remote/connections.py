"""The connections of a desktop to a server, of httpx2. Its errors end here."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from llama_bridge.checks import shown
from llama_bridge.errors import InvalidInput

from .wire import Arrived, Line, NoAnswer, Wire

__all__ = ["Connections"]

_CONNECT_SECONDS = 10.0
_KEPT = 8


class Connections(Wire):
    """Some that are kept for the next request, and one for each answer that may be given up.

    A forked process makes its own: two that write to one connection would read each other's answers.

    Args:
        url: the server's address.
        headers: sent with each request.
        user: name and password, or None.
        seconds: how long the server may say nothing.
        verify: how its certificate is checked; True as the system does.

    Raises:
        InvalidInput: there can be no such host.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        user: tuple[str, str] | None,
        seconds: float,
        verify: bool | ssl.SSLContext,
    ) -> None:
        self._url = url
        self._headers = dict(headers)
        self._headers["Accept-Encoding"] = "identity"
        self._seconds = seconds
        self._patience = _Patience()
        self._auth = None if user is None else httpx2.BasicAuth(*user)
        self._wait = httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds), pool=None)
        self._verify = httpx2.create_ssl_context() if verify is True else verify
        self._inherited: list[httpx2.Client] = []  # never closed here: they are the parent's
        self._urls: dict[str, httpx2.URL] = {}
        try:
            self._make()
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise InvalidInput(
                f"the server's address {shown(url)} cannot be used: {_words(error)}"
            ) from error

    def _make(self) -> None:
        self._pid = os.getpid()
        self._kept, self._single = self._made(_KEPT), self._made(0)

    def _made(self, keep: int) -> httpx2.Client:
        return httpx2.Client(
            base_url=self._url,
            headers=self._headers,
            auth=self._auth,
            timeout=self._wait,
            verify=self._verify,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=keep),
        )

    def _own(self) -> None:
        if self._pid != os.getpid():
            self._inherited += [self._kept, self._single]
            self._make()

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        line: Line,
        *,
        kept: bool,
    ) -> Arrived:
        """See :meth:`Wire.send`."""
        self._own()
        client = self._kept if kept else self._single
        with _told(self._url):
            url = self._urls.get(path)
            if url is None:  # parsing it takes as long as sending it
                url = self._urls[path] = httpx2.URL(self._url + path)
            request = client.build_request(
                method,
                url,
                content=content,
                headers=headers,
                extensions={"trace": _Trace(line, self._patience)},
            )
            self._patience.begin(self._seconds)
            response = client.send(request, stream=True)
            if not self._patience.has_read:
                response.close()  # and with it the connection
                raise NoAnswer(f"the server {self._url} had answered before it was asked")
            return _Received(self._url, response, self._patience, self._seconds)

    def close(self) -> None:
        """See :meth:`Wire.close`."""
        self._own()
        self._kept.close()
        self._single.close()


class _Patience(threading.local):
    """Until when this thread waits for what it reads now. httpx2 waits anew after each byte, and a server can send one a second.

    Attributes:
        until: when its time is over, as :func:`time.monotonic` counts.
        has_read: whether it has read anything since it asked.
    """

    until = 0.0
    has_read = False

    def begin(self, seconds: float) -> None:
        """It asks something now."""
        self.until = time.monotonic() + seconds
        self.has_read = False

    def bounding(self, read: Callable[..., bytes]) -> Callable[..., bytes]:
        """Reads from a connection, but not for longer."""

        def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
            left = self.until - time.monotonic()
            if left <= 0:
                raise _Late
            self.has_read = True
            return read(max_bytes, left if timeout is None else min(left, timeout))

        return bounded


class _Late(Exception):
    """A head, or the next piece, has not come whole in the time there was."""


class _Received(Arrived):
    def __init__(
        self, url: str, response: httpx2.Response, patience: _Patience, seconds: float
    ) -> None:
        self._url = url
        self._response = response
        self._patience = patience
        self._seconds = seconds
        self.status = response.status_code
        self.headers = response.headers
        encoding = response.headers.get("content-encoding", "").lower()
        self.packed = "" if encoding == "identity" else encoding

    def pieces(self) -> Iterator[bytes]:
        """See :meth:`Arrived.pieces`."""
        pieces = self._response.iter_raw()
        while True:
            self._patience.begin(self._seconds)
            with _told(self._url):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """See :meth:`Arrived.close`."""
        self._response.close()


class _Trace:
    """Called by httpcore with what happens: a new connection tells its socket, and a request that it has left."""

    def __init__(self, line: Line, patience: _Patience) -> None:
        self._line = line
        self._patience = patience

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_body.complete"):
            self._line.sent.set()
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._line.is_new = True
            stream = info["return_value"]
            stream.read = self._patience.bounding(stream.read)
            found = stream.get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._line.connected(lambda: _shut(found))


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        # The plain one: TLS would first say goodbye, for which it needs what the reader is using.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


@contextmanager
def _told(url: str) -> Generator[None]:
    """Errors of httpx2 as ours. None of them has the key in it."""
    try:
        yield
    except Exception as error:
        if (ours := _as_ours(url, error)) is not None:
            raise ours from error
        raise


def _as_ours(url: str, error: Exception) -> NoAnswer | None:
    match error:
        case httpx2.ConnectTimeout():
            why = f"the server {url} accepts no connection: it took too long"
            return NoAnswer(why, unheard=True)
        case httpx2.TimeoutException() | _Late():
            return NoAnswer(f"the server {url} says nothing: it took too long", late=True)
        case httpx2.HTTPError() | httpx2.StreamError() | httpx2.InvalidURL():
            unheard = isinstance(error, httpx2.ConnectError)
            return NoAnswer(f"the server {url} does not answer: {_words(error)}", unheard=unheard)
        case OSError() | ValueError() | RuntimeError() | AttributeError() | AssertionError():
            # Its socket was shut down under it.
            return NoAnswer(f"the connection to {url} was lost: {_words(error)}")
        case _:
            return None


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
