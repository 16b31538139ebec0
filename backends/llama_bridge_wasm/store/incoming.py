"""A file on its way into the store: fetched, written, counted and hashed piece by piece."""

# JavaScript is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llama_bridge.errors import ModelNotFound
from llama_bridge.hub.answers import Answer, refused

from ..page import JsException, js, new
from .errors import DownloadError, StoreFull
from .hub import expected_of
from .opfs import mapped_errors
from .patience import SILENT, answered
from .sources import why_unreadable

__all__ = ["Incoming", "StoreProgress", "Tell", "Transfer", "blob_pieces", "request"]

_MAGIC = b"GGUF"
_PIECE = 4 << 20
_GRAIN = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_REFUSALS = (401, 403, 407, 429)


@dataclass(frozen=True, slots=True)
class StoreProgress:
    """Progress of a download or a copy.

    Attributes:
        done: bytes that have arrived.
        total: bytes of the whole file; None if the server does not say.
        note: a remark, such as where an interrupted download continues, or why it starts over.
    """

    done: int
    total: int | None
    note: str = ""


Tell = Callable[[StoreProgress], object]


class Incoming:
    """A growing, unfinished file. Owns the access handle.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self._name = name
        self._hash = hashlib.sha256()
        self._magic = b""
        self.size = 0

    @property
    def is_gguf(self) -> bool:
        """False as soon as the content cannot be a GGUF file."""
        return _MAGIC.startswith(self._magic[:4]) or not self._magic

    @property
    def sha256(self) -> str:
        """The digest of the bytes so far."""
        return self._hash.hexdigest()

    def take_up(self) -> None:
        """Count and hash the bytes of an earlier try."""
        left = int(self._handle.getSize())
        piece = new(js.Uint8Array, _PIECE)
        while self.size < left:
            with mapped_errors(self._name):
                n = int(self._handle.read(piece, _at(self.size)))
            if n == 0:
                break
            self._count(piece.subarray(0, n))

    def start_over(self) -> None:
        """Discard the bytes so far."""
        with mapped_errors(self._name):
            self._handle.truncate(0)
        self._hash, self._magic, self.size = hashlib.sha256(), b"", 0

    def room(self, total: int) -> int:
        """How large the file can become, up to ``total`` bytes.

        Browsers blur their estimates on purpose, so this asks for the space itself and gives it back.
        """

        def fits(size: int) -> bool:
            try:
                self._handle.truncate(size)
            except JsException as error:
                if getattr(error, "name", "") == "QuotaExceededError":
                    return False
                raise
            return int(self._handle.getSize()) == size  # Chromium's private windows do not raise

        with mapped_errors(self._name):
            low, high = self.size, total
            if fits(total):
                low = total
            while high - low > _GRAIN:
                middle = (low + high) // 2
                low, high = (middle, high) if fits(middle) else (low, middle)
            self._handle.truncate(self.size)
        return low

    def write(self, piece: Any) -> None:
        """Append a ``Uint8Array``.

        Raises:
            StoreFull: the browser has no space for it.
        """
        n = int(piece.byteLength)
        with mapped_errors(self._name, needed=n):
            written = int(self._handle.write(piece, _at(self.size)))
        if written != n:  # there it is -8 as an unsigned number
            room = int(self._handle.getSize()) - self.size
            self._handle.truncate(self.size)
            raise StoreFull(self._name, n, max(0, room))
        self._count(piece)

    def close(self) -> None:
        """Flush to the disk and close."""
        self._handle.flush()
        self._handle.close()

    def _count(self, piece: Any) -> None:
        data = piece.to_bytes()
        self._hash.update(data)
        self._magic = (self._magic + data[:4])[:4]
        self.size += len(data)


def _at(position: int) -> Any:
    options = new(js.Object)
    options.at = position
    return options


async def blob_pieces(blob: Any, name: str) -> AsyncIterator[Any]:
    """Yield a ``Blob`` or ``File`` as ``Uint8Array`` pieces."""
    for start in range(0, int(blob.size), _PIECE):
        try:
            buffer = await blob.slice(start, start + _PIECE).arrayBuffer()
        except JsException as error:
            raise ModelNotFound(name, f"cannot be read: {why_unreadable(error)}") from error
        yield new(js.Uint8Array, buffer)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A server's answer.

    Attributes:
        start: offset of the first byte that it sends.
        total: bytes of the whole file, or None.
        validator: an ETag or date that shows whether the file is still the same; empty if there is none.
        pieces: the body, as ``Uint8Array`` pieces.
        cancel: ends it.
    """

    start: int
    total: int | None
    validator: str
    pieces: AsyncIterator[Any]
    cancel: Callable[[], None]


async def request(url: str, name: str, have: int, validator: str) -> Transfer:
    """Request a file, from byte ``have`` on if its validator is still the same; otherwise, or if not allowed to, the whole.

    Raises:
        ModelNotFound: the server has no such file.
        AccessDenied: it wants a login. RateLimited: it wants to be asked later.
        DownloadError: it did not answer, or not as it should.
    """
    control = new(js.AbortController)
    options, headers = new(js.Object), new(js.Headers)
    if have and validator:
        headers.set("Range", f"bytes={have}-")
        if expected_of(url) is None:  # otherwise the digest tells; other servers may not allow this
            headers.set("If-Range", validator)
    options.headers, options.signal = headers, control.signal
    options.cache = "no-store"  # the browser's cache must not keep a second copy
    try:
        response = await answered(js.fetch(url, options))
    except TimeoutError as error:
        control.abort()
        raise DownloadError(name, f"the server {SILENT}", have) from error
    except JsException as error:
        if have and validator:  # another server may allow pages to ask, but not with these headers
            with suppress(DownloadError):
                return await request(url, name, 0, "")
        raise DownloadError(
            name, f"the server did not answer ({_words(error)}): is this page offline?", have
        ) from error
    status = int(response.status)
    if status == 416 and have:  # it is complete already, or the file has become shorter
        return await request(url, name, 0, "")
    if status in (404, 410):
        raise ModelNotFound(url, f"the server has no such file (status {status})")
    found = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
    start, total = 0, _length(response.headers)
    if status == 206 and validator and (found is None or _has_changed(response.headers, validator)):
        control.abort()  # another server may hide from pages what it sends; some do not look at If-Range
        return await request(url, name, 0, "")
    if status == 206 and found is not None and int(found[1]) == have:
        start, total = have, int(found[2])
    elif status in _REFUSALS:
        told = {"retry-after": str(response.headers.get("Retry-After") or "")}
        raise refused(url, Answer(status, told, iter(())), have)
    elif status != 200:
        raise DownloadError(name, f"the server answered with status {status}", have)
    return Transfer(
        start, total, _validator(response.headers), _body(response, name), control.abort
    )


def _length(headers: Any) -> int | None:
    # For a compressed answer this is the compressed length.
    text = headers.get("Content-Length")
    return int(text) if text and not headers.get("Content-Encoding") else None


def _validator(headers: Any) -> str:
    """A value for If-Range: a strong ETag, otherwise a date."""
    tag = headers.get("ETag") or ""
    return str(tag if tag.startswith('"') else headers.get("Last-Modified") or "")


def _has_changed(headers: Any, validator: str) -> bool:
    found = headers.get("ETag" if validator.startswith('"') else "Last-Modified") or ""
    return bool(validator) and str(found) not in ("", validator)


async def _body(response: Any, name: str) -> AsyncIterator[Any]:
    reader = response.body.getReader()
    while True:
        try:
            step = await answered(reader.read())
        except TimeoutError as error:
            raise DownloadError(name, f"the server {SILENT}") from error
        except JsException as error:
            raise DownloadError(name, f"the connection broke ({_words(error)})") from error
        if step.done:
            return
        yield step.value


def _words(error: Exception) -> str:
    return str(getattr(error, "message", error))
