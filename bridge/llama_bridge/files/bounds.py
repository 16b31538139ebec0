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

__all__ = ["Bounds", "KeptFile", "kept_files"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class KeptFile:
    """A file with the name of a session.

    Attributes:
        used: when it was last used, in nanoseconds.
        name: name of the session.
        n_bytes: its size.
        path: where it is.
    """

    used: int
    name: str
    n_bytes: int
    path: str


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
                            found.append(
                                KeptFile(status.st_mtime_ns, name, status.st_size, entry.path)
                            )
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
    """

    def __init__(
        self, folder: str, budget: int, limit: int | None, changing: threading.Lock
    ) -> None:
        self._folder = folder
        self._budget = budget
        self._limit = limit
        self._changing = changing
        self._told = False

    def keep(self, newest: str) -> None:
        """Bring the folder within its limits. The newest session is left alone.

        Raises:
            SessionError, OSError: that failed.
        """
        files = kept_files(self._folder)
        few = self._limit is None or len(files) <= self._limit
        if few and sum(file.n_bytes for file in files) <= self._budget:
            return
        from .format import state_bytes  # 8 ms with json: only files need it

        cached = {file.path: state_bytes(file.path) for file in files}
        own = [file for file in files if cached[file.path] is not None]
        own = self._drop(own, newest)
        excess = sum(file.n_bytes for file in own) - self._budget
        for file in own:
            if excess <= 0:
                break
            if file.name != newest and cached[file.path]:
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
        from .manifest import drop_state  # 8 ms, as above

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
