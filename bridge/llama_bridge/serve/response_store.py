"""Responses of one server, in memory or in a folder of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from ..errors import InvalidInput, SessionWriteError
from ..files.folder_lock import FolderLock
from ..files.replacing import OPEN_SAFELY, replace_file
from . import kept_record
from .kept_responses import Kept, Responses

__all__ = ["ResponseStore"]

_IN_MEMORY = 256
"""Responses of a folder that are also kept in memory."""

MOST_BYTES = 256 << 20
"""Room for all responses together: a request of 8 MB can make one that is as large."""

_log = logging.getLogger(__name__)


class ResponseStore(Responses):
    """Keeps the most recently used responses, in a folder or in memory.

    Args:
        folder: where they outlive the server; None keeps them in memory. It belongs to this store alone.
        most: how many.
        most_bytes: how large all of them may be together, as JSON. The newest one is kept in any case.

    Raises:
        SessionsLocked: another server uses the folder.
        SessionWriteError: the folder cannot be used.
    """

    def __init__(self, folder: Path | None, most: int, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(os.urandom(32))
        self.lasting = folder is not None
        self._folder = folder
        self._most = most
        self._most_bytes = most_bytes
        self._sizes: dict[str, int] = {}
        self._total = 0  # bytes of all
        self._kept: OrderedDict[str, Kept | None] = OrderedDict()  # None: it is in the folder alone
        self._lock: FolderLock | None = None
        self._holding = threading.Lock()
        if folder is not None:
            self._lock = FolderLock(folder, os.path.realpath(folder))
            self._lock.hold()
            self._open(folder)

    def _open(self, folder: Path) -> None:
        try:
            for part in folder.glob(".llama-bridge-*.part"):
                part.unlink()  # a killed server was writing it
            self._share_secret(folder)
            found = [(path.stat(), path.stem) for path in folder.glob("resp_*.json")]
        except OSError as error:
            raise SessionWriteError(folder, f"cannot be used: {error.strerror}") from error
        for stat, stem in sorted(found, key=lambda one: one[0].st_mtime_ns):
            self._put(stem, None, stat.st_size)

    def _share_secret(self, folder: Path) -> None:
        """Take the secret that is in the folder, or put this one there."""
        file = folder / "secret"
        with suppress(FileNotFoundError):
            found = file.read_bytes()
            if len(found) == len(self._secret):  # a killed server may not have written all of it
                self._secret = found
                return
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | OPEN_SAFELY, 0o600)
        with open(handle, "wb") as opened:
            opened.write(self._secret)

    def _hold(self, folder: Path, lock: FolderLock) -> None:
        """Make the folder again if somebody has removed it."""
        with self._holding:
            era = lock.era
            lock.hold()
            if lock.era is not era:
                try:
                    self._share_secret(folder)
                except OSError as error:
                    raise SessionWriteError(folder, f"cannot be used: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        """Let another server have the folder."""
        if self._lock is not None:
            self._lock.release()

    async def find(self, id_: str, owner: str, param: str | None = None) -> Kept:
        """See :meth:`Responses.find`."""
        kept = self._kept.get(id_)
        if kept is None and id_ in self._kept:
            kept = await to_thread.run_sync(self._read, id_)
            if id_ not in self._kept:
                kept = None  # it was deleted meanwhile
        if kept is None:
            self._drop(id_)
        kept = self.checked(kept, id_, owner, param)
        self._kept[id_] = kept
        self._kept.move_to_end(id_)
        self._forget_copies()
        return kept

    async def keep(self, kept: Kept) -> list[str]:
        """See :meth:`Responses.keep`."""
        size = await to_thread.run_sync(self._write, kept)
        self._put(kept.id, kept, size)
        gone: list[str] = []
        while len(self._kept) > self._most or (
            self._total > self._most_bytes and len(self._kept) > 1
        ):
            gone.append(next(iter(self._kept)))
            self._drop(gone[-1])
        await self._unlink(gone)
        self._forget_copies()
        return gone

    async def remove(self, id_: str) -> None:
        """See :meth:`Responses.remove`."""
        self._drop(id_)
        await self._unlink([id_])

    def _put(self, id_: str, kept: Kept | None, size: int) -> None:
        self._drop(id_)
        self._kept[id_] = kept
        self._sizes[id_] = size
        self._total += size

    def _drop(self, id_: str) -> None:
        self._kept.pop(id_, None)
        self._total -= self._sizes.pop(id_, 0)

    async def _unlink(self, ids: Sequence[str]) -> None:
        if (folder := self._folder) is not None and ids:

            def unlink() -> None:
                for id_ in ids:
                    _path(folder, id_).unlink(missing_ok=True)

            await to_thread.run_sync(unlink)

    def _forget_copies(self) -> None:
        """What is in the folder need not all be in memory, too."""
        if self._folder is not None and len(self._kept) > _IN_MEMORY:
            for id_ in list(self._kept)[:-_IN_MEMORY]:
                self._kept[id_] = None

    def _write(self, kept: Kept) -> int:
        """Write a response into the folder, if there is one; returns its size in bytes."""
        data = kept_record.to_bytes(kept)
        if self._folder is not None and self._lock is not None:
            self._hold(self._folder, self._lock)
            replace_file(_path(self._folder, kept.id), lambda file: file.write(data))
        return len(data)

    def _read(self, id_: str) -> Kept | None:
        assert self._folder is not None
        path = _path(self._folder, id_)
        try:
            # A link leads elsewhere, and a pipe may never end.
            with open(os.open(path, os.O_RDONLY | OPEN_SAFELY), "rb") as file:
                data = file.read()
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.error("a kept response cannot be read: %s", type(error).__name__)
            return None
        return kept_record.from_bytes(data, id_)


def _path(folder: Path, id_: str) -> Path:
    if not id_.removeprefix("resp_").isalnum():
        raise InvalidInput("a response's id has letters and digits")
    return folder / f"{id_}.json"
