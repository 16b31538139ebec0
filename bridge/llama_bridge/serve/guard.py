"""Who may ask, and how much: looks at each request before anything else does."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Busy
from .refusals import Refused, as_refused, refusal
from .settings import ServerSettings

__all__ = ["Guard", "owner_of"]

_OPEN = ("/health", "/", "/app.css", "/app.js", "/icon.svg", "/licences.txt")
"""Paths that need no key."""

_READ = 16
"""Requests that may be read beside those that are answered or wait."""


class Guard:
    """ASGI middleware: checks Host, Origin and key, and bounds the size of a body and the time that it takes.

    Args:
        app: answers.
        settings: the bounds.
        uploads: how the paths begin to which files of any size may come; only the pauses in them are bounded.
        opened: paths that need no key, beside those of the chat application.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        uploads: tuple[str, ...] = (),
        opened: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._settings = settings
        self._uploads = uploads
        self._open = _OPEN + opened
        self._here = 0  # requests that are read or answered
        self._hosts = {"localhost", *(host.lower() for host in settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_origin(headers)
            self._check_key(scope, headers)
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            is_file = path.startswith(self._uploads) if self._uploads else False
            bounded = _Bounded(receive, headers, self._settings, is_file=is_file)
            self._check_room(scope)
        except Refused as refused:
            await refusal(refused)(scope, receive, send)
            return
        self._here += 1
        try:
            await self._app(scope, bounded.receive, send)
        finally:
            self._here -= 1

    def _check_room(self, scope: Scope) -> None:
        """Refuse a body for which there is no room in memory. Most that are read may wait to be refused."""
        most = self._settings.max_requests + _READ
        if scope["method"] == "POST" and self._here >= most:
            raise as_refused(Busy(self._here))

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """A web page can make a browser ask this server under a name that the page's owner has pointed here.

        An address in numbers cannot be pointed anywhere.
        """
        host = _name_of(headers.get("host", ""))
        if host not in self._hosts and not _is_address(host):
            message = (
                "this server does not answer to that Host: start it with --allowed-host to add one"
            )
            raise Refused(403, message, code="host_not_allowed")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """A browser tells which page asks. Even a request whose answer the page cannot read would cost work."""
        origin = headers.get("origin")
        allowed = self._settings.cors_origins
        if origin is None or "*" in allowed or origin in allowed:
            return
        try:
            place = urlsplit(origin).netloc
        except ValueError:  # such as "http://[": no address at all
            place = None
        if place is None or place != headers.get("host"):
            message = "web pages of this origin may not ask: start the server with --cors-origin to let them"
            raise Refused(403, message, code="origin_not_allowed")

    def _check_key(self, scope: Scope, headers: Mapping[str, str]) -> None:
        scope["llama_bridge.owner"] = owner = owner_of(headers, self._settings.api_keys)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if owner is None and path not in self._open and scope["method"] != "OPTIONS":
            raise Refused(
                401,
                "give an API key of this server: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def owner_of(headers: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    """The key that a request brings; "" if none is needed, None if it has none of the right ones.

    It is compared with all of them, each in constant time: how long that takes tells nothing.
    """
    if not keys:
        return ""
    kind, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
    found = None
    for key in keys:
        if hmac.compare_digest(given.encode(), key.encode()):
            found = key
    return found


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        host = name
    return host.removesuffix(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class _Bounded:
    """The body of a request, which may be no larger and take no longer than allowed; a file no longer between two pieces."""

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[str, str],
        settings: ServerSettings,
        *,
        is_file: bool,
    ) -> None:
        self._receive = receive
        self._is_file = is_file
        self._most = settings.max_body if not is_file else 1 << 62
        self._seconds = settings.body_seconds
        self._size = 0
        self._end: float | None = None  # when the body must be here
        self._here = False
        length = headers.get("content-length", "")
        # Of two lengths, a server on the way may believe the other one.
        if length and "transfer-encoding" in headers:
            why = "the request has both Content-Length and Transfer-Encoding"
            raise Refused(400, why, code="invalid_http", headers={"Connection": "close"})
        if length.isdigit() and (len(length) > 18 or int(length) > self._most):
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part of the body; afterwards, whether the client has left."""
        if self._here:
            return await self._receive()
        if self._end is None or self._is_file:
            self._end = anyio.current_time() + self._seconds
        try:
            with anyio.fail_after(max(0.0, self._end - anyio.current_time())):
                message = await self._receive()
        except TimeoutError:
            why = f"the request took longer than {self._seconds:g} s to arrive"
            raise Refused(408, why, headers={"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise self._too_large()
        self._here = not message.get("more_body", False)
        return message

    def _too_large(self) -> Refused:
        why = f"the request is larger than {self._most:,} bytes"
        return Refused(413, why, headers={"Connection": "close"})
