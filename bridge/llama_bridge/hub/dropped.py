"""A model whose bytes somebody hands over, such as a file that is dropped on a window: into the cache of addresses.

There all that lists, loads and removes models finds it, by its path. Parts of a split model come into one folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DownloadError, InvalidModel, NotEnoughSpace
from ..models.file_kinds import BEGINNING, GGUF, file_kind
from ..models.gguf import read_gguf
from ..models.part_name import read_part_name
from ..user_cache import user_cache
from .fetching import writing
from .folders import matching, short_name
from .transfer import free_space

__all__ = ["Dropped", "room_for_models", "taking"]

_SPARE = 256 << 20
"""Bytes that stay free on the disk: one that is full harms more than this model is worth."""
_LEFT = 3600.0
"""Seconds after which what nobody writes to any more is what a program left that was killed."""


class Dropped:
    """A file while it arrives."""

    def __init__(self, name: str, size: int, path: Path) -> None:
        self._name = name
        self._size = size
        self._path = path
        self._part = path.with_name(f"{path.name}.{os.urandom(4).hex()}.tmp")  # which nobody lists
        self._file = self._part.open(
            "xb", buffering=0
        )  # nothing is left to write when it is closed
        self._beginning = b""

    def write(self, piece: bytes) -> None:
        """The next bytes.

        Raises:
            InvalidModel: it begins like something else, which is said before all of it has come.
            DownloadError: the disk refuses it.
        """
        if len(self._beginning) < BEGINNING:
            self._beginning += piece[:BEGINNING]
            if len(self._beginning) >= min(BEGINNING, self._size):
                self._check_beginning()
        with writing(self._name):
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]

    def _check_beginning(self) -> None:
        kind = file_kind(self._beginning)
        if kind is None or kind.name != GGUF:
            what = f"this is {kind.what}: {kind.way_out}" if kind else "this is no GGUF file"
            raise InvalidModel(self._name, what, kind.name if kind else "")

    def done(self) -> Path:
        """All has come; returns where it is.

        Raises:
            InvalidModel: it is no usable GGUF file.
            DownloadError: the disk refuses it.
        """
        with writing(self._name):
            self._file.close()
        with self._part.open("rb") as file:
            read_gguf(file, self._name)
        with writing(self._name):
            os.replace(self._part, self._path)
        return self._path

    def close(self) -> None:
        """Leave nothing behind of what has not come whole."""
        self._file.close()
        self._part.unlink(missing_ok=True)
        with suppress(OSError):
            self._path.parent.rmdir()  # if nothing else is in it


@contextmanager
def taking(name: str, size: int) -> Generator[Dropped]:
    """Take a file. One of the same name is replaced.

    Args:
        name: of the file, for people; its letters are kept as far as a file may be called so.
        size: bytes that will come.

    Raises:
        NotEnoughSpace: before anything is written.
        DownloadError: this user has no cache folder, or it cannot be written to.
    """
    base = user_cache()
    if base is None:
        raise DownloadError(name, "this user has no cache folder: set XDG_CACHE_HOME to one")
    _remove_what_was_left(base)
    stem = short_name(re.sub(r"[^\w.-]", "_", name.removesuffix(".gguf"))) or "model"
    part = read_part_name(f"{stem}.gguf")
    key = hashlib.sha256(f"dropped {part.base if part else stem}".encode()).hexdigest()[:32]
    folder = base / "downloads" / key
    with writing(name):
        folder.mkdir(parents=True, exist_ok=True)
    if size + _SPARE > (free := free_space(folder)):
        with suppress(OSError):
            folder.rmdir()
        raise NotEnoughSpace(name, folder, size + _SPARE, free)
    with writing(name):
        dropped = Dropped(name, size, folder / f"{stem}.gguf")
    try:
        yield dropped
    finally:
        dropped.close()


def _remove_what_was_left(base: Path) -> None:
    """A program that is killed while a file arrives cannot remove it, and nobody lists it."""
    for path in matching(base, f"downloads/*/*.gguf.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT:
                path.unlink()
                path.parent.rmdir()  # if nothing else is in it


def room_for_models() -> int | None:
    """Bytes that are free where models come to; None if the system does not say."""
    base = user_cache()
    try:
        folder = next(path for path in (base, *base.parents) if path.exists()) if base else None
        return shutil.disk_usage(folder).free if folder else None
    except OSError:
        return None
