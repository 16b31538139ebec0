"""What was found out about files by reading them whole, kept in the user's cache until they change."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from .user_cache import user_cache

__all__ = ["FileNotes", "identity_of"]

_MANY = 256
_log = logging.getLogger(__name__)


def identity_of(status: os.stat_result) -> list[int]:
    """What changes when another file takes a file's place, or somebody writes to it."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


class FileNotes:
    """One kind of note, a short text for each file.

    Args:
        folder: its folder in the user's cache.
        key: what is noted, such as ``"sha256"``.
    """

    def __init__(self, folder: str, key: str) -> None:
        self._folder = folder
        self._key = key

    def read(self, path: Path) -> str | None:
        """The note on a file, unless the file has changed since; a link's target counts."""
        where = self._where(path)
        if where is None:
            return None
        try:
            record: Any = json.loads(where.read_bytes())
            if record["file"] == identity_of(path.stat()):
                return str(record[self._key])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return None

    def write(self, path: Path, note: str) -> None:
        """Keep a note on a file as it is now, if there is a folder for that."""
        where = self._where(path)
        if where is None:
            return
        try:
            where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            record = {
                "path": os.path.realpath(path),
                "file": identity_of(path.stat()),
                self._key: note,
            }
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
            _log.debug("the %s of %s is not kept: %s", self._key, path, error)

    def _where(self, path: Path) -> Path | None:
        base = user_cache()
        if base is None:
            return None
        name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
        return base / self._folder / f"{name}.json"


def _prune(folder: Path) -> None:
    """Forget files that are gone, once there are many."""
    records = list(folder.glob("*.json"))
    if len(records) <= _MANY:
        return
    for record in records:
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            if not os.path.exists(json.loads(record.read_bytes())["path"]):
                record.unlink()
