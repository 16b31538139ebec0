"""Asks a server over HTTP: what is asked again, and what an answer must look like."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import random
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from llama_bridge import __version__
from llama_bridge.claim import CLAIM
from llama_bridge.errors import BridgeError, ClosedError, EngineError

from .address import Address
from .events import NoEvent, read_events, read_value
from .refusals import Refusal, as_error, of_object, read_refusal, without
from .wire import Arrived, Line, NoAnswer, Wire

if TYPE_CHECKING:
    import ssl

__all__ = ["Client", "Line", "NoAnswer", "NotJson", "Refused"]

_TRIES = 4
_FIRST_WAIT = 0.25
_AGAIN = frozenset((429, 502, 503, 504))
"""Statuses that say: not now. None of them comes after the first word of an answer."""
_MOST = 64 << 20
"""Bytes of an answer that is not a stream."""
_SECRETS = ("auth", "key", "token", "secret", "cookie")
"""In the name of a header: what it holds is not shown."""

_log = logging.getLogger(__name__)


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


class Client:
    """A server, asked over HTTP by any number of threads.

    Args:
        address: where it is.
        key: sent as a bearer token; never shown.
        seconds: how long it may say nothing, and how long an answer that is no stream may take to come.
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
        self._seconds = seconds
        sent = {"User-Agent": f"llama-bridge/{__version__}", **(headers or {})}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        user = None if address.user is None or key else address.user
        hidden = [key]
        if user is not None:
            hidden += [user[1], base64.b64encode(":".join(user).encode()).decode()]
        hidden += [v for n, v in sent.items() if any(one in n.lower() for one in _SECRETS)]
        self._secrets = tuple(one for one in hidden if one)
        self._wire = _wire(address.url, sent, user, seconds, verify)

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
        self._wire.close()

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
        kept = line is None
        line = line or self._line or Line()
        line.is_new = False
        with self._answered(method, path, body, line, again=again, kept=kept) as arrived:
            self.n_connected += kept and line.is_new
            data = self._read(arrived)
            if arrived.status == 204 or not data:
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
        with self._answered("POST", path, body, line, again=False, headers=headers) as arrived:
            kind = arrived.headers.get("content-type", "")
            if "text/event-stream" not in kind:
                data = self._read(arrived)
                if "application/json" in kind:
                    with contextlib.suppress(ValueError):
                        value: object = read_value(data)
                        if isinstance(value, dict) and "error" in value:
                            raise Refused(of_object(500, cast("object", value), self._secrets))
                page = data.lstrip()[:1] == b"<"
                what = "a web page" if page else "no stream"
                raise NotJson(f"{self.url}{path} answers with {what}", is_page=page)
            yield self._events(path, arrived)

    def _events(self, path: str, arrived: Arrived) -> Iterator[dict[str, Any]]:
        with self._told():
            try:
                for event in read_events(self._in_time(arrived.pieces(), b"\n")):
                    if event.get("error"):
                        raise Refused(of_object(500, event, self._secrets))
                    yield event
            except NoEvent as error:
                raise NotJson(self.without_secrets(f"{self.url}{path}: {error}")) from error

    def _read(self, arrived: Arrived) -> bytes:
        data = bytearray()
        with self._told():
            for piece in self._in_time(arrived.pieces(), None):
                data += piece
                if len(data) > _MOST:
                    raise NotJson(f"{self.url} answers with more than {_MOST >> 20} MiB")
        return bytes(data)

    def _in_time(self, pieces: Iterable[bytes], word: bytes | None) -> Iterator[bytes]:
        """Pieces, as long as there is a word in them now and then; without one, as long as they end in time.

        Raises:
            NoAnswer.
        """
        since = time.monotonic()
        for piece in pieces:
            now = time.monotonic()
            if word is not None and word in piece:
                since = now
            elif now - since > self._seconds:
                raise NoAnswer(f"the server {self.url} takes too long to say something", late=True)
            yield piece

    def without_secrets(self, text: str) -> str:
        """What the server said, without what only it may know."""
        return without(text, self._secrets)

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        line: Line,
        *,
        again: bool,
        kept: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[Arrived]:
        """An accepted answer. What did not arrive, or came too early, is asked again some times, ever later."""
        content = None if body is None else _encode(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        headers = {**kind, **(headers or {})}
        wait = _FIRST_WAIT
        for left in reversed(range(_TRIES)):
            if line.given_up.is_set():  # before anything was sent
                raise NoAnswer("the request was given up")
            arrived, reason = None, ""
            try:
                with self._told():
                    arrived = self._wire.send(method, path, content, headers, line, kept=kept)
            except NoAnswer as error:
                # Never there: whoever asks has another way, or a wrong address. Late: it had its time.
                gone = error.late or (not self._reached and error.unheard is not False)
                if gone or not left or line.given_up.is_set() or not (again or error.unheard):
                    raise
                reason = str(error)
            if arrived is not None:
                self._reached = True
                with contextlib.closing(arrived):
                    if arrived.packed:
                        how = self.without_secrets(arrived.packed[:50])
                        raise NotJson(f"{self.url} compresses its answers ({how!r}) unasked")
                    if arrived.status < 300:
                        yield arrived
                        return
                    if arrived.status < 400:
                        target = arrived.headers.get("location", "another address")
                        target = self.without_secrets(target)[:200]
                        raise NotJson(f"{self.url} sends us on to {target!r}: give that address")
                    data = self._read(arrived)
                    refusal = read_refusal(arrived.status, data, arrived.headers, self._secrets)
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

    @contextmanager
    def _told(self) -> Generator[None]:
        """Nobody answers a client that was closed meanwhile."""
        try:
            yield
        except NoAnswer as error:
            self._hide_secrets(error)
            if self._closed:
                raise ClosedError("this LlamaBridge is closed: make a new one") from error
            raise

    def _hide_secrets(self, error: BaseException | None) -> None:
        """What is no HTTP is quoted by an error and by those that it comes from."""
        while error is not None:
            said = str(error)
            if (shown := self.without_secrets(said)) != said:
                error.args = (shown,)
            error = error.__cause__ or error.__context__

    def error_of(self, refusal: Refusal, model: str | None = None) -> BridgeError:
        """The error that tells a refusal."""
        return as_error(refusal, self.url, model)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _encode(body: Mapping[str, Any]) -> bytes:
    return _encoder.encode(body).encode()


def _wire(
    url: str,
    headers: Mapping[str, str],
    user: tuple[str, str] | None,
    seconds: float,
    verify: bool | ssl.SSLContext,
) -> Wire:
    if sys.platform == "emscripten":
        from .fetching import Fetching  # only a page has what it imports

        return Fetching(url, headers, user, seconds)
    from .connections import Connections  # 50 ms: httpx2, which no page has

    return Connections(url, headers, user, seconds, verify)
