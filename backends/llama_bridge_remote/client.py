"""Asks a server over HTTP. The errors of httpx2 end here."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import ssl
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import httpx2

from llama_bridge import __version__
from llama_bridge.checks import shown
from llama_bridge.claim import CLAIM
from llama_bridge.errors import BridgeError, ClosedError, EngineError, InvalidInput, ServerGone

from .address import Address
from .connections import Connections
from .events import NoEvent, read_events, read_value
from .refusals import Refusal, as_error, of_object, read_refusal

__all__ = ["Client", "Line", "NoAnswer", "NotJson", "Refused"]

_TRIES = 4
_FIRST_WAIT = 0.25
_AGAIN = frozenset((429, 502, 503, 504))
"""Statuses that say: not now. None of them comes after the first word of an answer."""
_MOST = 256 << 20
"""Bytes of an answer that is not a stream."""

_log = logging.getLogger(__name__)


class NoAnswer(ServerGone):
    """Nobody answered at the address, or the connection broke. Nothing is known of what was done."""


class NotJson(EngineError):
    """The server answers, but not in the shape that was expected: a web page, say.

    Attributes:
        is_page: whether it is a web page.
    """

    def __init__(self, message: str, *, is_page: bool = False) -> None:
        super().__init__(message)
        self.is_page = is_page


class Refused(Exception):
    """The server refused. Whoever asked makes an error of it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Line:
    """One request under way, which can be given up from any thread.

    Attributes:
        is_new: whether a connection was made for it.
    """

    def __init__(self) -> None:
        self.given_up = threading.Event()
        self.is_new = False
        self._socket: socket.socket | None = None

    def give_up(self) -> None:
        """End the connection now: whoever reads from it fails at once, and the server hears of it."""
        self.given_up.set()
        self._shut()

    def _shut(self) -> None:
        if (sock := self._socket) is not None:
            with contextlib.suppress(OSError, ValueError):
                # The plain one: TLS would first say goodbye, for which it needs what the reader is using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpcore with what happens; a new connection tells its socket."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.is_new = True
            stream = info["return_value"]
            found = stream.get_extra_info("socket")
            if isinstance(found, socket.socket):
                self._socket = found
                if self.given_up.is_set():
                    self._shut()


class Client:
    """A server, asked over HTTP by any number of threads.

    Args:
        address: where it is.
        key: sent as a bearer token; never shown.
        seconds: how long it may say nothing.
        headers: sent with each request.
        verify: how its certificate is checked; True as the system does.

    Attributes:
        n_connected: how often a connection that is kept was made. A server that was started anew has lost them all.
    """

    def __init__(
        self,
        address: Address,
        key: str = "",
        seconds: float = 600.0,
        headers: Mapping[str, str] | None = None,
        verify: bool | ssl.SSLContext = True,
    ) -> None:
        self.url = address.url
        self.n_connected = 0
        self._line: Line | None = None  # of all requests that find out what the server is
        self._closed = False
        self._reached = False
        self._secret = key
        sent = {"User-Agent": f"llama-bridge/{__version__}", **(headers or {})}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        auth = None if address.user is None or key else address.user
        try:
            self._connections = Connections(address.url, sent, auth, seconds, verify)
        except (httpx2.InvalidURL, UnicodeError) as error:  # no such host can be, say
            raise InvalidInput(
                f"the server's address {shown(address.url)} cannot be used: {_words(error)}"
            ) from error
        self._urls: dict[str, httpx2.URL] = {}

    @contextmanager
    def opening(self) -> Generator[None]:
        """While it is found out what the server is: that ends with the task that waits for it, also if the server says nothing."""
        line, claim = Line(), CLAIM.get()
        if claim is not None:
            claim.ending = line.give_up
            if claim.given_up:  # just before
                line.give_up()
        self._line = line
        try:
            yield
        finally:
            self._line = None

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._connections.close()

    def get(self, path: str) -> Any:
        """The JSON value at a path.

        Raises:
            NoAnswer, NotJson, Refused.
        """
        return self._whole("GET", path, None, None, again=True)

    def post(self, path: str, body: Mapping[str, Any], line: Line | None = None) -> Any:
        """The JSON value that answers a request which may be sent twice, as it changes nothing.

        Raises:
            NoAnswer, NotJson, Refused.
        """
        return self._whole("POST", path, body, line, again=True)

    def change(self, path: str, body: Mapping[str, Any], method: str = "POST") -> Any:
        """The same for a request that changes something: it is sent again only if it did not arrive."""
        return self._whole(method, path, body, None, again=False)

    def _whole(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        line: Line | None,
        *,
        again: bool,
    ) -> Any:
        client = self._connections.kept if line is None else self._connections.single
        is_kept, line = line is None, line or self._line or Line()
        line.is_new = False
        with self._answered(client, method, path, body, line, again=again) as response:
            self.n_connected += is_kept and line.is_new
            data = self._read(response)
            if response.status_code == 204 or not data:
                return None
            try:
                return read_value(data)
            except ValueError as error:
                page = data.lstrip()[:1] == b"<"
                what = "a web page" if page else "no JSON"
                raise NotJson(
                    f"{self.url}{path} answers with {what}: is this the address of a model server?",
                    is_page=page,
                ) from error

    @contextmanager
    def stream(
        self, path: str, body: Mapping[str, Any], line: Line, headers: Mapping[str, str]
    ) -> Generator[Iterator[dict[str, Any]]]:
        """The events that answer a request, once the server has accepted it.

        Raises:
            NoAnswer, NotJson, Refused: also while the events are read.
        """
        with self._answered(
            self._connections.single, "POST", path, body, line, again=False, headers=headers
        ) as response:
            kind = response.headers.get("content-type", "")
            if "text/event-stream" not in kind:
                data = self._read(response)
                if "application/json" in kind:
                    with contextlib.suppress(ValueError):
                        value: object = read_value(data)
                        if isinstance(value, dict) and "error" in value:
                            raise Refused(of_object(500, cast("object", value), self._secret))
                page = data.lstrip()[:1] == b"<"
                what = "a web page" if page else "no stream"
                raise NotJson(f"{self.url}{path} answers with {what}", is_page=page)
            yield self._events(response)

    def _events(self, response: httpx2.Response) -> Iterator[dict[str, Any]]:
        with self._told(response.request.url.path):
            for event in read_events(response.iter_bytes()):
                if event.get("error"):
                    raise Refused(of_object(500, event, self._secret))
                yield event

    def _read(self, response: httpx2.Response) -> bytes:
        data = bytearray()
        with self._told(response.request.url.path):
            for piece in response.iter_bytes():
                data += piece
                if len(data) > _MOST:
                    raise NotJson(f"{self.url} answers with more than {_MOST >> 20} MiB")
        return bytes(data)

    @contextmanager
    def _answered(
        self,
        client: httpx2.Client,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        line: Line,
        *,
        again: bool,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[httpx2.Response]:
        """An accepted answer. What did not arrive, or came too early, is asked again some times, ever later."""
        wait = _FIRST_WAIT
        for left in reversed(range(_TRIES)):
            response, reason = None, ""
            try:
                with self._told(path):
                    response = self._sent(client, method, path, body, line, headers)
            except NoAnswer as error:
                unheard = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
                gone = (
                    unheard and not self._reached
                )  # never there: whoever asks has another way, or a wrong address
                if gone or not left or line.given_up.is_set() or not (again or unheard):
                    raise
                reason = str(error)
            if response is not None:
                self._reached = True
                with contextlib.closing(response):
                    if response.status_code < 300:
                        yield response
                        return
                    if response.status_code < 400:
                        target = response.headers.get("location", "")
                        raise NotJson(
                            f"{self.url} sends us on to {target[:200]!r}: give that address"
                        )
                    data = self._read(response)
                    refusal = read_refusal(
                        response.status_code, data, response.headers, self._secret
                    )
                if refusal.status not in _AGAIN or not left:
                    raise Refused(refusal)
                reason = refusal.message
                wait = max(wait, refusal.retry_after or 0.0)
                if wait > 10:
                    raise Refused(refusal)
            _log.info("%s: %s; trying again in %.2f s", self.url, reason, wait)
            if line.given_up.wait(wait * random.uniform(0.8, 1.2)):
                raise NoAnswer("the request was given up")
            wait *= 2

    def _sent(
        self,
        client: httpx2.Client,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        line: Line,
        headers: Mapping[str, str] | None,
    ) -> httpx2.Response:
        url = self._urls.get(path)
        if url is None:  # parsing it takes as long as sending it
            url = self._urls[path] = httpx2.URL(self.url + path)
        content = None if body is None else _encode(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = client.build_request(
            method,
            url,
            content=content,
            headers={**kind, **(headers or {})},
            extensions={"trace": line.trace},
        )
        return client.send(request, stream=True)

    @contextmanager
    def _told(self, path: str) -> Generator[None]:
        """Errors of httpx2 as ours. None of them has the key in it."""
        try:
            yield
        except (BridgeError, Refused):
            raise
        except Exception as error:
            if self._closed:
                raise ClosedError("this LlamaBridge is closed: make a new one") from error
            raise self._as_ours(path, error) from error

    def _as_ours(self, path: str, error: Exception) -> Exception:
        match error:
            case NoEvent():
                return NotJson(f"{self.url}{path}: {error}")
            case httpx2.ConnectTimeout():
                return NoAnswer(f"the server {self.url} accepts no connection: it took too long")
            case httpx2.TimeoutException():
                return NoAnswer(f"the server {self.url} says nothing: it took too long")
            case httpx2.HTTPError() | httpx2.StreamError() | httpx2.InvalidURL():
                return NoAnswer(f"the server {self.url} does not answer: {_words(error)}")
            case OSError() | ValueError() | RuntimeError() | AttributeError() | AssertionError():
                # Its socket was shut down under it.
                return NoAnswer(f"the connection to {self.url} was lost: {_words(error)}")
            case _:
                return error

    def error_of(self, refusal: Refusal, model: str | None = None) -> BridgeError:
        """The error that tells a refusal."""
        return as_error(refusal, self.url, model)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _encode(body: Mapping[str, Any]) -> bytes:
    return _encoder.encode(body).encode()


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
