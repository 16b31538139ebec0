"""The beginning of a file on a server, as a file: enough to read a header, and never the whole model.

A server is asked for a part, and for more only when more is needed. One that cannot send parts begins to send the whole
file, and is left once there is enough of it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from ..errors import DownloadError, InvalidModel
from . import patience, transfer
from .answers import CONTENT_RANGE, Answer, ConnectionBroke, Get, content_length, refused

__all__ = ["MOST", "UNKNOWN", "Beginning"]

MOST = 64 << 20
"""Bytes of a file that are ever received. Real headers have at most 20 MB."""
UNKNOWN = 1 << 62
"""The size of a file whose server does not say it."""

_TRIES = 3
_FIRST, _LARGEST = 1 << 18, 1 << 22
_AT_ONCE = 1 << 15
"""A read gets as much as has arrived, and waits for no more than this."""


class Beginning(io.RawIOBase):
    """What has arrived of a file, and more of it when that is read.

    Args:
        name: for messages.
        get: asks for the file.
        size: of the whole file, if somebody said it.

    Attributes:
        received: bytes that have arrived.

    Reading raises DownloadError and what is below it, ModelNotFound, or InvalidModel for a header without an end.
    """

    def __init__(self, name: str, get: Get, size: int | None = None) -> None:
        self._name = name
        self._get = get
        self._size = size
        self._data = bytearray()
        self._skip = 0
        self._pos = 0
        self._until = 0
        self._validator = ""
        self._answer: ExitStack | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._end = time.monotonic() + patience.SECONDS

    @property
    def received(self) -> int:
        """Bytes that have arrived."""
        return len(self._data)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Read elsewhere; the end is where the server says that it is, or :data:`UNKNOWN`."""
        if whence == io.SEEK_END:
            self._fetch(1)
            offset += UNKNOWN if self._size is None else self._size
        elif whence == io.SEEK_CUR:
            offset += self._pos
        self._pos = max(0, offset)
        return self._pos

    def readinto(self, buffer: Any, /) -> int:
        """Fill a part of a buffer with what comes next; 0 at the end."""
        view = memoryview(buffer).cast("B")
        self._fetch(self._pos + min(len(view), _AT_ONCE))
        part = memoryview(self._data)[self._pos : self._pos + len(view)]
        view[: len(part)] = part
        self._pos += len(part)
        return len(part)

    def close(self) -> None:
        """Leave the server. Closing twice does nothing."""
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            with suppress(ConnectionBroke):
                answer.close()

    def _fetch(self, wanted: int) -> None:
        """Receive until so many bytes are there, or the file ends."""
        failures = 0
        while len(self._data) < min(wanted, UNKNOWN if self._size is None else self._size):
            if wanted > MOST:
                why = f"its header is longer than {MOST:,} bytes: damaged, or not a model"
                raise InvalidModel(self._name, why)
            before = len(self._data)
            try:
                if not self._more(wanted):
                    return
            except ConnectionBroke as error:
                self._hang_up()
                failures = 0 if len(self._data) > before else failures + 1
                if failures > _TRIES:
                    raise self._error(str(error)) from error
                pause = transfer.PAUSE * 2 ** max(0, failures - 1)
                self._check_time(pause)
                time.sleep(pause)

    def _more(self, wanted: int) -> bool:
        """Receive a piece; False at the end of a file whose size nobody knew."""
        if self._answer is None:
            self._ask(wanted)
        piece = next(self._pieces, None)
        self._check_time()
        if piece is None:
            self._hang_up()
            if self._size is None and len(self._data) < self._until:
                self._size = len(self._data)
                return False
            if len(self._data) < self._until:
                raise ConnectionBroke("the connection ended early")
            return True
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        room = self._until - len(self._data)
        self._data += memoryview(piece)[skipped : skipped + room]
        if len(self._data) >= self._until:
            self._hang_up()
        return True

    def _ask(self, wanted: int) -> None:
        start = len(self._data)
        step = min(max(start, _FIRST), _LARGEST)
        until = min(max(wanted, start + step), MOST)
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{until - 1}"}
        with ExitStack() as stack:
            answer = stack.enter_context(self._get(headers))
            self._until = self._look_at(answer, start, until)
            self._pieces = answer.pieces
            self._answer = stack.pop_all()

    def _look_at(self, answer: Answer, start: int, until: int) -> int:
        """Look at the answer's status and size; returns where what it sends ends."""
        headers = {key: value.strip() for key, value in answer.headers.items()}
        length: int | None = None
        self._skip = 0
        if answer.status == 206 and (
            found := CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        ):
            if int(found[1]) != start:
                raise self._error(f"the server sent another part than asked for: {found[0]}")
            length = int(found[3]) if found[3] != "*" else None
            until = max(start + 1, min(until, int(found[2]) + 1))  # it may send less than asked for
        elif answer.status == 200:
            length = content_length(headers)
            self._skip, until = start, MOST
        elif answer.status == 416 and not start:
            self._size = 0
            return 0
        elif answer.status in (408, 500, 502, 503, 504):
            raise ConnectionBroke(f"the server answered with status {answer.status}")
        else:
            raise refused(self._name, answer)
        if headers.get("content-encoding", "") not in ("", "identity"):
            raise self._error("the server compresses it, so its length is unknown")
        self._check_same(headers.get("etag", "") or headers.get("last-modified", ""), length)
        return until if self._size is None else min(until, self._size)

    def _check_same(self, validator: str, length: int | None) -> None:
        if self._validator and validator and validator != self._validator:
            raise self._error("the file changed on the server while its header was read: try again")
        self._validator = validator
        if self._size is None:
            self._size = length
        elif length is not None and length != self._size:
            raise self._error(
                f"the server has {length:,} bytes of it, but {self._size:,} were promised"
            )

    def _check_time(self, more: float = 0.0) -> None:
        if time.monotonic() + more > self._end:
            raise self._error(f"its header has not arrived within {patience.SECONDS:g} s")

    def _error(self, why: str) -> DownloadError:
        return DownloadError(self._name, why, total=self._size)
