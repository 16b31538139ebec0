"""The connections to a server, of httpx2."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

import httpx2

__all__ = ["Connections"]

_CONNECT_SECONDS = 10.0
_KEPT = 8


class Connections:
    """Some that are kept for the next request, and one for each answer that may be given up.

    A forked process makes its own: two that write to one connection would read each other's answers.

    Args:
        url: the server's address.
        headers: sent with each request.
        user: name and password, or None.
        seconds: how long the server may say nothing.
        verify: how its certificate is checked; True as the system does.
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
        self._auth = None if user is None else httpx2.BasicAuth(*user)
        self._wait = httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds), pool=None)
        self._verify = httpx2.create_ssl_context() if verify is True else verify
        self._inherited: list[httpx2.Client] = []  # never closed here: they are the parent's
        self._make()

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

    @property
    def kept(self) -> httpx2.Client:
        """Keeps its connections."""
        self._own()
        return self._kept

    @property
    def single(self) -> httpx2.Client:
        """Makes a new one each time, whose socket is known."""
        self._own()
        return self._single

    def close(self) -> None:
        """Close all."""
        self._own()
        self._kept.close()
        self._single.close()
