"""Receives a file: continues where an earlier try ended, hashes what arrives, and never takes more than was promised."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import DigestMismatch, DownloadError, NotEnoughSpace
from ..progress import OnProgress, Progress
from .answers import (
    CONTENT_RANGE,
    Answer,
    ConnectionBroke,
    Get,
    content_length,
    refused,
    validator_in,
)

__all__ = [
    "CONTENT_RANGE",
    "PAUSE",
    "TRIES",
    "Wanted",
    "free_space",
    "receive",
    "seconds_without_data",
]

TRIES = 5
"""How often it is tried again without a byte more."""
PAUSE = 0.5
"""Seconds before the first of these; before each further one twice as long."""

_PIECE = 1 << 20
_OFTEN = 0.05
_LOOK = 0.2
_DAY = 86_400.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should arrive.

    Attributes:
        name: for messages.
        size: bytes, or None if nobody said.
        sha256: in hexadecimal, or None.
        validator: an ETag or date under which an earlier try began, for a server where the file may change.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    validator: str = ""


def seconds_without_data() -> float:
    """How long to wait for a server that sends nothing: ``HF_HUB_DOWNLOAD_TIMEOUT``, else 10 s."""
    text = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
    return min(max(0.1, float(text)), _DAY) if re.fullmatch(r"\d+(\.\d+)?", text) else 10.0


def receive(part: Path, get: Get, wanted: Wanted, on_progress: OnProgress | None) -> str:
    """Write a file to ``part``, after what is there already; returns its sha256.

    What has arrived stays in ``part`` if this fails, for the next try, unless it is nothing or wrong, or the disk is full.

    Raises:
        DownloadError: no answer, a refusal, or another size than promised.
        AccessDenied, RateLimited, ModelNotFound: by the answer.
        NotEnoughSpace: it does not fit on the disk.
        DigestMismatch: these are other bytes than promised.
    """
    try:
        with closing(_Part(part, wanted)) as file:
            digest = _Transfer(file, get, wanted, on_progress).run()
            file.flush()
            return digest
    except BaseException as error:
        with suppress(OSError):
            found = part.lstat()
            is_nothing = stat.S_ISREG(found.st_mode) and not found.st_size
            if is_nothing or isinstance(error, DigestMismatch | _DiskFull):
                part.unlink()
        raise


class _DiskFull(NotEnoughSpace):
    """The disk got full on the way: what has arrived is removed, since it fills it."""


class _Part:
    """The file as far as it has arrived.

    Attributes:
        size: bytes so far.
        sha256: of them.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.folder = path.parent
        self._wanted = wanted
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with self._on_disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        self.size = 0
        self.sha256 = hashlib.sha256()

    def take_up(self) -> None:
        """Count and hash what an earlier try left."""
        with self._on_disk():
            while piece := self._file.read(_PIECE):
                self.sha256.update(piece)
                self.size += len(piece)

    def start_over(self) -> None:
        with self._on_disk():
            self._file.seek(0)
            self._file.truncate(0)
        self.sha256, self.size = hashlib.sha256(), 0

    def write(self, piece: bytes) -> None:
        view = memoryview(piece)
        with self._on_disk():
            while view:
                n = self._file.write(view)
                self.sha256.update(view[:n])
                self.size += n
                view = view[n:]

    def flush(self) -> None:
        with self._on_disk():
            os.fsync(self._file.fileno())

    @contextmanager
    def _on_disk(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            name, folder = self._wanted.name, self.folder
            if error.errno in _FULL:
                needed = max(0, (self._wanted.size or 0) - self.size)
                raise _DiskFull(name, folder, needed, free_space(folder)) from error
            why = f"cannot be written to {folder}: {error.strerror or error}"
            raise DownloadError(name, why) from error

    def close(self) -> None:
        self._file.close()


class _Transfer:
    """One file from one server."""

    def __init__(
        self, file: _Part, get: Get, wanted: Wanted, on_progress: OnProgress | None
    ) -> None:
        self._file = file
        self._get = get
        self._wanted = wanted
        self._on_progress = on_progress
        self._total = wanted.size
        self._validator = wanted.validator
        self._told = 0.0

    def run(self) -> str:
        file, wanted = self._file, self._wanted
        file.take_up()
        if wanted.size is not None and file.size > wanted.size:
            file.start_over()
        from_earlier = file.size > 0
        while True:
            self._tell()
            self._until_complete()
            digest = file.sha256.hexdigest()
            if wanted.sha256 is None or digest == wanted.sha256:
                self._total = file.size
                self._tell()
                return digest
            if not from_earlier:
                raise DigestMismatch(
                    wanted.name,
                    wanted.sha256,
                    digest,
                    "it was damaged on its way or on the server, and is not used; try again, or tell its owner",
                )
            # The damage may have been done by what ended the earlier try.
            _log.warning("%s: what an earlier try left is damaged: starting over", wanted.name)
            file.start_over()
            from_earlier = False

    def _until_complete(self) -> None:
        file, failures, most = self._file, 0, self._file.size
        while True:
            if self._total is not None and file.size == self._total and (file.size or not failures):
                return
            try:
                if self._once():
                    return
                why = "the connection ended early"
            except ConnectionBroke as error:
                why = str(error)
            failures = 0 if file.size > most else failures + 1
            most = max(most, file.size)
            if failures > TRIES:
                raise self._error(why)
            _log.info("%s: %s: trying again", self._wanted.name, why)
            self._pause(PAUSE * 2 ** max(0, failures - 1))

    def _pause(self, seconds: float) -> None:
        """Wait, and tell meanwhile that nothing happens: whoever is told can end it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))
            self._tell()

    def _once(self) -> bool:
        """Ask once, and write what comes; returns whether the file is complete."""
        file, headers = self._file, {"Accept-Encoding": "identity"}
        if file.size:
            headers["Range"] = f"bytes={file.size}-"
            if self._validator:
                headers["If-Range"] = self._validator
        with self._get(headers) as answer:
            self._begin(answer)
            for piece in answer.pieces:
                if self._total is not None and file.size + len(piece) > self._total:
                    file.start_over()
                    raise DownloadError(
                        self._wanted.name,
                        f"the server sent more than the {self._total:,} bytes that it promised",
                        total=self._total,
                    )
                file.write(piece)
                self._tell(seldom=True)
        return self._total is None or file.size == self._total

    def _begin(self, answer: Answer) -> None:
        """Look at the answer's status and size; start over if it is the whole file."""
        file = self._file
        length: int | None = None
        if answer.status == 206 and (
            found := CONTENT_RANGE.fullmatch(_text(answer, "content-range"))
        ):
            if int(found[1]) != file.size:
                raise self._error(f"the server sent another part than asked for: {found[0]}")
            self._check_same(answer)
            length = int(found[3]) if found[3] != "*" else None
        elif answer.status == 416 and file.size:
            file.start_over()
            raise ConnectionBroke("the server has less than has arrived")
        elif answer.status == 200:
            file.start_over()
            length = content_length(answer.headers)
            if self._wanted.size is None:
                self._total = length
            if (
                self._wanted.sha256 is None
            ):  # otherwise that tells, and mirrors may differ in their ETags
                self._validator = validator_in(answer.headers)
        elif answer.status in (408, 500, 502, 503, 504):
            raise ConnectionBroke(f"the server answered with status {answer.status}")
        else:
            raise refused(self._wanted.name, answer, file.size)
        if _text(answer, "content-encoding") not in ("", "identity"):
            raise self._error("the server compresses it, so its length is unknown")
        if self._total is None:
            self._total = length
        if length is not None and self._total != length:
            raise self._error(
                f"the server has {length:,} bytes of it, but {self._total:,} were promised"
            )
        self._check_space()

    def _check_same(self, answer: Answer) -> None:
        """Start over if the rest is of another file: some servers do not look at If-Range."""
        header = "etag" if self._validator.startswith('"') else "last-modified"
        found = _text(answer, header)
        if self._wanted.sha256 is None and self._validator and found not in ("", self._validator):
            self._file.start_over()
            raise ConnectionBroke("the file has changed on the server")

    def _check_space(self) -> None:
        if self._total is None:
            return
        needed, free = self._total - self._file.size, free_space(self._file.folder)
        if needed > free:
            if not self._file.size:
                self._file.start_over()
            raise NotEnoughSpace(self._wanted.name, self._file.folder, needed, free)

    def _error(self, why: str) -> DownloadError:
        kept = self._file.size
        way_out = (
            f"; {kept / 1e6:,.1f} MB have arrived, and the next try continues from there"
            * bool(kept)
        )
        return DownloadError(self._wanted.name, why + way_out, received=kept, total=self._total)

    def _tell(self, *, seldom: bool = False) -> None:
        if self._on_progress is None:
            return
        now, done = time.monotonic(), self._file.size
        if not seldom or now - self._told > _OFTEN:
            self._told = now
            total = self._total if self._total is not None else done + 1  # nobody knows
            self._on_progress(Progress("download", done, total, "bytes"))


def _text(answer: Answer, header: str) -> str:
    return answer.headers.get(header, "").strip()


def free_space(folder: Path) -> int:
    """Bytes that this user may still write there; a very large number if the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62
