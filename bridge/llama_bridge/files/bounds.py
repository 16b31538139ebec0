"""Limits a folder of sessions: KV caches are removed first, conversations only if their number is limited."""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass

from ..errors import SessionCorrupt, SessionError, SessionNotFound
from ..session_name import session_name

__all__ = ["Bounds", "Footers", "KeptFile", "kept_files"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class KeptFile:
    """A file with the name of a session.

    Attributes:
        used: when it was last used, in nanoseconds.
        name: name of the session.
        n_bytes: its size.
        path: where it is.
        version: another if the file was changed or replaced.
    """

    used: int
    name: str
    n_bytes: int
    path: str
    version: tuple[int, int, int]


class Footers:
    """Tells own files from others by their footers, each of which is read once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[KeptFile, int | None]] = {}

    def own(self, files: list[KeptFile]) -> dict[KeptFile, int]:
        """Those of the files that are session files, and how many bytes of KV cache each has."""
        known, seen = self._known, dict[str, tuple[KeptFile, int | None]]()
        for file in files:
            before = known.get(file.path)
            if before is None or before[0].version != file.version:
                from .format import state_bytes  # 8 ms with json: only files need it

                before = file, state_bytes(file.path)
                if before[1] is None:
                    _log.warning(
                        "%s is not a whole session file: it is left alone, and not listed",
                        file.path,
                    )
            seen[file.path] = before
        self._known = seen  # what is gone is forgotten
        sizes = {file: seen[file.path][1] for file in files}
        return {file: size for file, size in sizes.items() if size is not None}


def kept_files(folder: str) -> list[KeptFile]:
    """The regular files in a folder that are named like sessions, least recently used first.

    Empty if the folder is gone.

    Raises:
        SessionCorrupt: it cannot be read.
    """
    found: list[KeptFile] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = session_name(entry.name)
                if name is not None:
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            version = status.st_dev, status.st_ino, status.st_mtime_ns
                            used, size = status.st_mtime_ns, status.st_size
                            found.append(KeptFile(used, name, size, entry.path, version))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SessionCorrupt(folder, f"cannot be read: {error.strerror or error}") from error
    return sorted(found)


class Bounds:
    """The limits of a folder. Only files with the name and footer of a session are changed.

    Args:
        folder: its path.
        budget: bytes of all files together; beyond it the least recently used sessions lose their KV caches.
        limit: the most conversations; beyond it the least recently used are deleted. None keeps all of them.
        changing: held while a file is changed.
        footers: remembers which files are sessions.

    Attributes:
        dropped: the sessions that were deleted because of the limit, and not written since.
    """

    def __init__(
        self,
        folder: str,
        budget: int,
        limit: int | None,
        changing: threading.Lock,
        footers: Footers,
    ) -> None:
        self._folder = folder
        self._footers = footers
        self._budget = budget
        self._limit = limit
        self._changing = changing
        self._told = False
        self.dropped: set[str] = set()

    def keep(self, newest: str) -> None:
        """Bring the folder within its limits. The newest session is left alone.

        Raises:
            SessionError, OSError: that failed.
        """
        self.dropped.discard(newest)
        files = kept_files(self._folder)
        few = self._limit is None or len(files) <= self._limit
        if few and sum(file.n_bytes for file in files) <= self._budget:
            return
        cached = self._footers.own(files)
        own = self._drop(list(cached), newest)
        excess = sum(file.n_bytes for file in own) - self._budget
        for file in own:
            if excess <= 0:
                break
            if file.name != newest and cached[file]:
                excess -= self._give_up_cache(file)
        if excess > 0 and not self._told:
            _log.warning(
                "%s has %d bytes more than sessions_disk=%d, although older sessions gave up their KV caches; "
                "set sessions_limit to keep fewer conversations",
                self._folder,
                excess,
                self._budget,
            )
        self._told = excess > 0

    def _drop(self, own: list[KeptFile], newest: str) -> list[KeptFile]:
        """Delete conversations beyond the limit; returns the others."""
        excess = 0 if self._limit is None else len(own) - self._limit
        left: list[KeptFile] = []
        for file in own:
            if excess > 0 and file.name != newest:
                with self._changing, suppress(FileNotFoundError):
                    os.unlink(file.path)
                self.dropped.add(file.name)
                excess -= 1
                _log.warning(
                    "session %r was deleted: its folder keeps only %d (sessions_limit)",
                    file.name,
                    self._limit,
                )
            else:
                left.append(file)
        return left

    def _give_up_cache(self, file: KeptFile) -> int:
        """Rewrite a file without its KV cache; returns how many bytes that freed."""
        from .manifest import drop_state  # 8 ms with json: only files need it

        try:
            with self._changing:
                n_bytes = drop_state(file.path)
                os.utime(file.path, ns=(file.used, file.used))  # this does not count as use
        except SessionNotFound:  # deleted meanwhile
            return file.n_bytes
        except SessionError as error:
            _log.warning("session %r cannot give up its KV cache: %s", file.name, error)
            return 0
        _log.warning(
            "session %r gave up its KV cache, because its folder may use %d bytes (sessions_disk): "
            "the conversation is kept and will be evaluated again when it is next used",
            file.name,
            self._budget,
        )
        return file.n_bytes - n_bytes
