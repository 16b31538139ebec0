"""A place that all replicas of a fleet see: a folder, such as one on a network's file system."""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import SessionWriteError
from ..files.replacing import replace_file

__all__ = ["SharedFolder", "SharedStore", "Stored", "shown_url"]

_LEFT = 3600.0
"""Seconds after which a file that is half written is taken for one that a killed replica has left."""


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """Something in the store.

    Attributes:
        used: when it was last used, in seconds since 1970.
        name: its name.
        n_bytes: its size.
    """

    used: float
    name: str
    n_bytes: int


class SharedStore(ABC):
    """Bytes by name. A name is written by one replica, once, and is there whole or not at all.

    All methods may take their time, and may be called from several threads. They raise ``OSError`` if the place cannot be used.
    """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """What is there, or None."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether it is there. This is a use."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put something there."""

    @abstractmethod
    def write_first(self, name: str, data: bytes) -> bytes:
        """Put something there, unless it is there already. Returns what is there: for all replicas the same."""

    @abstractmethod
    def fetch(self, name: str, file: Path) -> bool:
        """Copy something to a file of this machine; False if it is not there."""

    @abstractmethod
    def place(self, name: str, scratch: Path) -> Path:
        """Where a file is to be written that will be there under a name: in the store, or in the folder ``scratch``."""

    @abstractmethod
    def placed(self, name: str, file: Path) -> None:
        """The file is whole."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove something, if it is there."""

    @abstractmethod
    def contents(self) -> Iterator[Stored]:
        """Everything there."""


class SharedFolder(SharedStore):
    """A folder. What is in it is spread over 256 more, by name, because a folder of 100,000 files is slow.

    Raises:
        SessionWriteError: it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(None, "Permission denied")
        except OSError as error:
            why = "there is a file in its place" if folder.is_file() else error.strerror
            raise SessionWriteError(folder, f"cannot be used as a store: {why}") from error

    def _path(self, name: str) -> Path:
        # Ids begin with who has made them; what follows is random.
        return self._folder / (name[13:15] if name.startswith("resp_") else "") / name

    def _room(self, name: str) -> Path:
        path = self._path(name)
        if path.parent != self._folder:
            with suppress(FileExistsError):
                path.parent.mkdir(mode=0o700)  # not the folder itself: it may be gone on purpose
        return path

    def read(self, name: str) -> bytes | None:
        """See :meth:`SharedStore.read`."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            self._look()
            return None

    def has(self, name: str) -> bool:
        """See :meth:`SharedStore.has`."""
        try:
            os.utime(self._path(name))
        except PermissionError:
            return self._path(name).exists()
        except FileNotFoundError:
            self._look()
            return False
        return True

    def _look(self) -> None:
        """A file is not there; but if the whole folder is gone, nothing is known of it."""
        os.stat(self._folder)

    def write(self, name: str, data: bytes) -> None:
        """See :meth:`SharedStore.write`."""
        replace_file(self._room(name), lambda file: file.write(data))

    def write_first(self, name: str, data: bytes) -> bytes:
        """See :meth:`SharedStore.write_first`."""
        path = self._room(name)
        part = path.with_name(f".llama-bridge-{os.urandom(8).hex()}.part")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(part, path)  # fails if another was first; rename would replace
            return path.read_bytes()
        finally:
            part.unlink(missing_ok=True)

    def fetch(self, name: str, file: Path) -> bool:
        """See :meth:`SharedStore.fetch`."""
        try:
            shutil.copyfile(self._path(name), file)
        except FileNotFoundError:
            self._look()
            return False
        return True

    def place(self, name: str, scratch: Path) -> Path:
        """See :meth:`SharedStore.place`."""
        return self._room(name)

    def placed(self, name: str, file: Path) -> None:
        """See :meth:`SharedStore.placed`."""

    def remove(self, name: str) -> None:
        """See :meth:`SharedStore.remove`."""
        self._path(name).unlink(missing_ok=True)

    def contents(self) -> Iterator[Stored]:
        """See :meth:`SharedStore.contents`. Removes what killed replicas have left half written."""
        old = time.time() - _LEFT
        for folder in sorted(self._folder.iterdir()):
            if not folder.is_dir():
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # another replica has removed it meanwhile
                        status = entry.stat(follow_symlinks=False)
                        if entry.name.startswith("resp_"):
                            yield Stored(status.st_mtime, entry.name, status.st_size)
                        elif entry.name.startswith(".llama-bridge-") and status.st_mtime < old:
                            os.unlink(entry.path)


def shown_url(url: str) -> str:
    """A URL without what may be a user and a password."""
    scheme, mark, rest = url.partition("://")
    _, user, place = rest.rpartition("@")
    return f"{scheme}{mark}{'***@' if user else ''}{place}"
