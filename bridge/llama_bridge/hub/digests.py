"""The sha256 of files on the disk. It is computed once: a file that has not changed since is not read again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import DigestMismatch, InvalidModel
from ..progress import OnProgress, Progress
from ..user_cache import user_cache

__all__ = ["check_digest", "file_digest", "known_digest", "remember"]

_PIECE = 4 << 20
_MANY = 256
_log = logging.getLogger(__name__)


def check_digest(
    path: Path, expected: str, name: str, way_out: str, on_progress: OnProgress | None
) -> None:
    """Refuse a file with another sha256.

    Raises:
        DigestMismatch: names both.
        InvalidModel: it cannot be read.
    """
    found = file_digest(path, on_progress)
    if found != expected:
        raise DigestMismatch(name, expected, found, way_out)


def file_digest(path: Path, on_progress: OnProgress | None = None) -> str:
    """The sha256 of a file: from memory, or computed, which takes about a second for each GB.

    Raises:
        InvalidModel: it cannot be read.
    """
    if (known := known_digest(path)) is not None:
        return known
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE))
    done = 0
    with _reading(path):
        file = path.open("rb", buffering=0)
    with file:
        before = os.fstat(file.fileno())
        while True:
            with _reading(path):
                n = file.readinto(buffer)
            if not n:
                break
            digest.update(buffer[:n])
            done += n
            if on_progress is not None:
                on_progress(Progress("verify", done, max(done, before.st_size), "bytes"))
        same = _identity(before) == _identity(os.fstat(file.fileno()))
    if same:  # otherwise somebody writes to it
        remember(path, digest.hexdigest())
    return digest.hexdigest()


@contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidModel(path, f"cannot be read: {error.strerror or error}") from error


def known_digest(path: Path) -> str | None:
    """The sha256 of a file, if it was computed before and the file has not changed since."""
    where = _record(path)
    if where is None:
        return None
    try:
        record: Any = json.loads(where.read_bytes())
        if record["file"] == _identity(path.stat()):
            return str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember(path: Path, sha256: str) -> None:
    """Keep what a file's sha256 is, if there is a folder for that."""
    where = _record(path)
    if where is None:
        return
    try:
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = {"path": os.path.realpath(path), "file": _identity(path.stat()), "sha256": sha256}
        handle, temporary = tempfile.mkstemp(dir=where.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(record, file)
            os.replace(temporary, where)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _prune(where.parent)
    except OSError as error:
        _log.debug("the digest of %s is not remembered: %s", path, error)


def _prune(folder: Path) -> None:
    """Forget files that are gone, once there are many."""
    records = list(folder.glob("*.json"))
    if len(records) <= _MANY:
        return
    for record in records:
        with suppress(OSError, ValueError, KeyError, TypeError):
            if not os.path.exists(json.loads(record.read_bytes())["path"]):
                record.unlink()


def _record(path: Path) -> Path | None:
    """Where the digest of the file at this path is kept. A link's target counts."""
    base = user_cache()
    if base is None:
        return None
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return base / "digests" / f"{key}.json"


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
