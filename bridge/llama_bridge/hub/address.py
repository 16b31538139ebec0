"""Asks any server for a file, through the standard library. Nothing is installed for it, and no token is sent."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

from .._version import __version__
from ..errors import DownloadError
from ..models.name import UrlName
from .answers import Answer, ConnectionBroke, Get
from .transfer import seconds_without_data

__all__ = ["getter"]

_PIECE = 1 << 20


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the server to https, and from http to http: elsewhere anyone could change the file."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https:",) if req.full_url.startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            scheme = newurl.partition(":")[0]
            raise DownloadError(req.full_url, f"the server sends us on to {scheme}://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def getter(name: UrlName) -> Get:
    """What asks for the file."""
    opener = urllib.request.build_opener(_Redirects)
    url = quote(name.url, safe="%/:=&?~#+!$,;'@()*[]")

    @contextmanager
    def get(headers: Mapping[str, str]) -> Generator[Answer]:
        asking = {"User-Agent": f"llama-bridge/{__version__}", **headers}
        request = urllib.request.Request(url, headers=asking)
        try:
            response: Any = opener.open(request, timeout=seconds_without_data())
        except urllib.error.HTTPError as error:
            response = error
        except ValueError as error:
            why = f"no address, or the server sends us on to one ({error}): check the spelling"
            raise DownloadError(str(name), why) from error
        except (OSError, http.client.HTTPException) as error:
            raise _broke(name, error) from error
        with response:
            found = {key.lower(): value for key, value in response.headers.items()}
            yield Answer(response.status, found, _pieces(name, response))

    return get


def _pieces(name: UrlName, response: Any) -> Iterator[bytes]:
    try:
        while piece := response.read1(_PIECE):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise _broke(name, error) from error


def _broke(name: UrlName, error: Exception) -> Exception:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(name.url).netloc
    if isinstance(cause, ssl.SSLCertVerificationError):
        return DownloadError(str(name), f"{host} does not prove who it is ({cause.verify_message})")
    if isinstance(cause, TimeoutError):
        return ConnectionBroke(f"{host} has sent nothing for {seconds_without_data():g} s")
    return ConnectionBroke(
        f"no connection to {host} ({str(cause).strip() or type(cause).__name__})"
    )
