"""A folder that keeps named sessions: one file each, one owner, written in the background, bounded in size."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..bell import Bell
from ..checks import check_path
from ..errors import InvalidInput, PathLike, SessionError, SessionsLocked, SessionWriteError

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["SessionFolder"]

_SUFFIX = ".session"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_MAX_FILE_NAME = 255
_WAITING = 256 << 20
"""Bytes of KV caches that may wait for the disk before a turn waits for it, too."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A session on its way to the disk: what writes it to a path, and the memory it holds until then."""

    write: Callable[[str], object]
    n_bytes: int


class SessionFolder:
    """The files of named sessions. Calls come from one thread at a time; the writing is done by another.

    Made by :meth:`open`.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: str, budget: int, lock: BaseFileLock) -> None:
        self.path = path
        self._budget = budget
        self._lock = lock
        self._mutex = threading.Lock()  # around what follows
        self._waiting: dict[str, _Job] = {}  # the first to come is the first to go
        self._failed: dict[str, tuple[_Job, SessionError]] = {}
        self._writing: tuple[str, _Job] | None = None
        self._writer: threading.Thread | None = None
        self._bell = Bell()  # some of that has changed
        self._process = os.getpid()

    @classmethod
    def open(cls, folder: PathLike, budget: int) -> SessionFolder:
        """Take a folder for this bridge alone.

        Args:
            folder: made where it is missing, readable by its owner alone.
            budget: bytes of all files together; beyond it the least recently used go, but never the newest.

        Raises:
            InvalidInput: that is no path, or no number of bytes.
            SessionsLocked: another bridge has the folder, in this process or another.
            SessionWriteError: it cannot be made or written to.
        """
        path = os.path.realpath(check_path("sessions_dir", folder))
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            raise InvalidInput(f"sessions_disk={budget!r}: give a number of bytes")
        opened = cls(path, budget, _own(folder, path))
        opened._sweep()
        return opened

    # what is there

    def file(self, name: str) -> str:
        """Path of a session's file, whether it is there or not.

        Raises:
            InvalidInput: the name is too long for a file's.
        """
        encoded = _encode(name)
        if len(encoded) > _MAX_FILE_NAME:
            raise InvalidInput(
                f"the session name {name[:20]!r}... is too long for a file: give a shorter one"
            )
        return os.path.join(self.path, encoded)

    def names(self) -> list[str]:
        """Of all sessions that have a file or are about to, the least recently used first."""
        with self._mutex:
            soon = [*([self._writing[0]] if self._writing else []), *self._waiting]
        there = [name for _, name, _ in self._files()]
        return list(dict.fromkeys(n for n in [*there, *soon] if n))

    def has(self, name: str) -> bool:
        """Whether a session has a file, once what waits is written."""
        self._settle(name)
        return os.path.lexists(self.file(name))

    # keeping

    def keep(self, name: str, write: Callable[[str], object], n_bytes: int) -> None:
        """Have a session written soon; a newer one takes the place of one that still waits.

        ``write`` makes the whole file at the path it is given, or leaves the old one. It is called from
        another thread. Where more memory waits than is good, this waits for the disk.
        """
        self._refuse_fork()
        job = _Job(write, n_bytes)
        self._bell.wait(lambda: self._has_room(name, n_bytes))
        with self._mutex:
            self._failed.pop(name, None)
            self._waiting.pop(name, None)
            self._waiting[name] = job
        self._start()

    def touch(self, name: str) -> None:
        """Note that a session was used now."""
        with contextlib.suppress(OSError):
            os.utime(self.file(name))

    def drop(self, name: str) -> None:
        """Remove a session's file, and what waits to become one.

        Raises:
            SessionWriteError: the file cannot be removed.
        """
        with self._mutex:
            self._waiting.pop(name, None)
            self._failed.pop(name, None)
        self._settle(name)
        path = self.file(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SessionWriteError(path, f"cannot be removed: {error.strerror}") from error

    def flush(self) -> None:
        """Wait until all is on the disk; what failed before is tried once more.

        Raises:
            SessionWriteError: the first that cannot be written. It stays in memory, for another try.
        """
        self._refuse_fork()
        with self._mutex:
            for name, (job, _) in self._failed.items():
                self._waiting.setdefault(name, job)
            self._failed.clear()
        self._bell.wait(self._is_idle)
        with self._mutex:
            failed = [error for _, error in self._failed.values()]
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Write what waits, then give the folder back.

        Raises:
            SessionWriteError: as :meth:`flush`; the folder is given back all the same.
        """
        if os.getpid() != self._process:
            return  # forked: the parent has the folder, and the writer
        try:
            self.flush()
        finally:
            self._lock.release()

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:  # forked: the parent has the folder, and the writer
            raise SessionsLocked(self.path)

    # the writer

    def _has_room(self, newer: str, n_bytes: int) -> bool:
        """Whether a newer state of a session may wait, too."""
        self._start()
        with self._mutex:
            jobs = [job for name, job in self._waiting.items() if name != newer]
            jobs += [self._writing[1]] if self._writing else []
            backlog = sum(job.n_bytes for job in jobs)
        return backlog == 0 or backlog + n_bytes <= _WAITING

    def _is_idle(self) -> bool:
        """Whether all is written; sees to it that somebody writes."""
        self._start()
        with self._mutex:
            return not self._waiting and self._writing is None

    def _start(self) -> None:
        """See to it that there is a writer, if there is anything to write."""
        with self._mutex:
            writer = self._writer
            # One whose start was interrupted is not alive, and never will be.
            at_work = writer is not None and (writer.is_alive() or self._writing is not None)
            if at_work or not self._waiting:
                return
            # Not a daemon: the interpreter waits for it at its end, so what was said is on the disk even where
            # nobody closed the bridge. It ends as soon as there is nothing to write.
            fresh = threading.Thread(
                target=lambda: self._write_all(fresh), name="llama-bridge-sessions"
            )
            self._writer = fresh
        try:
            fresh.start()
        except RuntimeError:  # the interpreter is ending
            self._write_all(fresh)

    def _write_all(self, writer: threading.Thread) -> None:
        while True:
            with self._mutex:
                if self._writer is not writer:
                    return  # another one took its place before it began
                if not self._waiting:
                    self._writer = None
                    break
                name = next(iter(self._waiting))
                job = self._waiting.pop(name)
                self._writing = name, job
            failure = self._write(name, job)
            with self._mutex:
                self._writing = None
                if failure is not None and name not in self._waiting:
                    self._failed[name] = job, failure
            self._bell.ring()
        self._bell.ring()

    def _write(self, name: str, job: _Job) -> SessionError | None:
        try:
            job.write(self.file(name))
        except SessionError as error:
            _log.error("session %r is not on the disk: %s", name, error)
            return error
        except Exception as error:
            _log.exception("session %r is not on the disk", name)
            return SessionWriteError(self.file(name), f"cannot be written: {error}")
        self._keep_budget(name)
        return None

    def _settle(self, name: str) -> None:
        """Wait until a session's newest state is on the disk, or could not get there."""
        self._refuse_fork()
        self._bell.wait(lambda: self._is_settled(name))

    def _is_settled(self, name: str) -> bool:
        self._start()
        with self._mutex:
            writing = self._writing is not None and self._writing[0] == name
            return name not in self._waiting and not writing

    # files

    def _files(self) -> list[tuple[float, str, int]]:
        """Time of last use, name and size of all files, the least recently used first."""
        found: list[tuple[float, str, int]] = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = _decode(entry.name)
                if name is not None:
                    with contextlib.suppress(OSError):  # gone since
                        status = entry.stat()
                        found.append((status.st_mtime_ns, name, status.st_size))
        return sorted(found)

    def _keep_budget(self, newest: str) -> None:
        try:
            files = self._files()
            excess = sum(size for _, _, size in files) - self._budget
            for _, name, size in files:
                if excess <= 0:
                    return
                if name != newest:
                    os.unlink(self.file(name))
                    excess -= size
                    _log.info("session %r went: its folder may hold %d bytes", name, self._budget)
            if excess > 0:
                _log.warning(
                    "session %r alone takes more than the %d bytes of sessions_disk",
                    newest,
                    self._budget,
                )
        except OSError as error:
            _log.warning("%s cannot be kept within its bytes: %s", self.path, error)

    def _sweep(self) -> None:
        """Remove what a killed owner left half written."""
        for entry in os.listdir(self.path):
            if entry.startswith(".") and entry.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.path, entry))


def _own(given: PathLike, folder: str) -> BaseFileLock:
    """The folder, made where it is missing, for this bridge alone."""
    import filelock  # 40 ms, as long as all of llama_bridge: only who keeps a folder needs it

    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = filelock.FileLock(os.path.join(folder, ".lock"), thread_local=False)
        lock.acquire(timeout=0)
        return lock
    except filelock.Timeout as error:
        raise SessionsLocked(given) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise SessionWriteError(given, f"cannot be used as sessions_dir: {why}") from error


def _encode(name: str) -> str:
    """A file name for any session name: reversible, and no two the same where case is ignored."""
    plain = (c if c in _PLAIN else "".join(f"%{b:02x}" for b in c.encode()) for c in name)
    return "".join(plain) + _SUFFIX


def _decode(file_name: str) -> str | None:
    """The session name of a file name; None for other files."""
    from urllib.parse import unquote  # 2 ms: only who keeps a folder needs it

    if not file_name.endswith(_SUFFIX):
        return None
    try:
        name = unquote(file_name.removesuffix(_SUFFIX), errors="strict")
    except UnicodeDecodeError:
        return None
    return name if name and _encode(name) == file_name else None
