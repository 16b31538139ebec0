"""Requests of a page: ``fetch``, or where the browser cannot suspend Python a whole answer at once, by ``XMLHttpRequest``.

httpx2 has a transport of its own for pages. It cannot end a request, and the browser would follow redirects with
whatever the request has.
"""

# JavaScript is untyped, and all of it comes from one module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any

from llama_bridge.errors import BackendUnavailable

from .page import JsException, can_wait, js, new, to_js, wait
from .wire import Arrived, Line, NoAnswer, Wire

__all__ = ["Fetching"]

_ELSEWHERE = 302
"""The status of an answer that sends us on: the browser tells none."""


class Fetching(Wire):
    """Requests of a page to one server.

    Args:
        url: the server's address.
        headers: sent with each request.
        user: name and password, or None.
        seconds: how long the server may say nothing.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        user: tuple[str, str] | None,
        seconds: float,
    ) -> None:
        self._url = url
        # A page's requests have the browser's own User-Agent.
        self._headers = {
            name: value for name, value in headers.items() if name.lower() != "user-agent"
        }
        if user is not None:
            pair = base64.b64encode(":".join(user).encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        self._seconds = seconds

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
        headers = {**self._headers, **headers}
        if not can_wait():
            return self._whole(method, path, content, headers)
        controller = new(js.AbortController)
        line.connected(lambda: controller.abort())
        options: dict[str, Any] = {
            "method": method,
            "headers": headers,
            "signal": controller.signal,
            "redirect": "manual",
            "credentials": "omit",
            "cache": "no-store",
        }
        if content is not None:
            options["body"] = content
        given = to_js(options, dict_converter=js.Object.fromEntries)
        try:
            fetched = js.fetch(self._url + path, given)
            line.sent.set()
            response = within(self._seconds, fetched)
        except (JsException, TimeoutError) as error:
            controller.abort()
            raise self._silent(error, line) from error
        return _Fetched(self._url, response, controller, self._seconds)

    def close(self) -> None:
        """See :meth:`Wire.close`. The browser has the connections."""

    def _silent(self, error: Exception, line: Line | None = None) -> NoAnswer:
        if line is not None and line.given_up.is_set():
            return NoAnswer("the request was given up")
        if isinstance(error, TimeoutError):
            return NoAnswer(f"the server {self._url} says nothing: it took too long", late=True)
        page = str(getattr(getattr(js, "location", None), "origin", "null"))
        return NoAnswer(
            f"the server {self._url} does not answer, or does not let this page ask: start it, with --cors-origin {page} "
            "if it is llama-bridge serve (the browser's console tells which it was)",
            unheard=None,
        )

    def _whole(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Arrived:
        """The same without suspending Python. Nothing else goes on in this worker until all of the answer is there."""
        if hasattr(js, "document") or not hasattr(js, "XMLHttpRequest"):
            raise BackendUnavailable(
                "remote",
                "the browser cannot suspend Python here, and would be blocked",
                "run Python in a worker, or with runPythonAsync in a browser with JSPI",
            )
        url = self._url + path
        request = new(js.XMLHttpRequest)
        request.open(method, url, False)
        request.responseType = "arraybuffer"
        request.timeout = int(1000 * min(self._seconds, 1e6))
        for name, value in headers.items():
            request.setRequestHeader(name, value)
        try:
            request.send(None if content is None else to_js(content))
        except JsException as error:
            late = getattr(error, "name", "") == "TimeoutError"
            raise self._silent(TimeoutError() if late else error) from error
        status = _ELSEWHERE if request.responseURL != js.URL.new(url).href else request.status
        lines = (one.partition(":") for one in request.getAllResponseHeaders().splitlines())
        found = {name.strip().lower(): value.strip() for name, _, value in lines}
        return _Whole(int(status), found, request.response.to_py().tobytes())


class _Fetched(Arrived):
    def __init__(self, url: str, response: Any, controller: Any, seconds: float) -> None:
        self._url = url
        self._body = response.body
        self._controller = controller
        self._seconds = seconds
        self._over = False
        self.status = _ELSEWHERE if response.type == "opaqueredirect" else int(response.status)
        self.headers = dict(response.headers.entries())

    def pieces(self) -> Iterator[bytes]:
        """See :meth:`Arrived.pieces`."""
        if self._body is not None:
            reader = self._body.getReader()
            while not (piece := self._read(reader)).done:
                yield piece.value.to_bytes()
        self._over = True

    def _read(self, reader: Any) -> Any:
        try:
            return within(self._seconds, reader.read())
        except TimeoutError as error:
            raise NoAnswer(f"the server {self._url} says nothing: it took too long") from error
        except JsException as error:
            raise NoAnswer(f"the connection to {self._url} was lost: {error}") from error

    def close(self) -> None:
        """See :meth:`Arrived.close`."""
        if not self._over:
            self._controller.abort()


class _Whole(Arrived):
    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self._data = data

    def pieces(self) -> Iterator[bytes]:
        """See :meth:`Arrived.pieces`."""
        yield self._data

    def close(self) -> None:
        """See :meth:`Arrived.close`."""


def within(seconds: float, promise: Awaitable[Any]) -> Any:
    """What a promise comes to.

    Raises:
        TimeoutError, JsException.
    """
    return wait(asyncio.wait_for(promise, seconds))
