"""The sha256 of files on the disk. It is computed once: a file that has not changed since is not read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DigestMismatch, InvalidModel
from ..file_notes import FileNotes, identity_of
from ..progress import OnProgress, Progress

__all__ = ["check_digest", "file_digest", "known_digest", "remember"]

_PIECE = 4 << 20
_notes = FileNotes("digests", "sha256")


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
        same = identity_of(before) == identity_of(os.fstat(file.fileno()))
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
    return _notes.read(path)


def remember(path: Path, sha256: str) -> None:
    """Keep what a file's sha256 is, if there is a folder for that."""
    _notes.write(path, sha256)
