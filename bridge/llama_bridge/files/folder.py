"""A folder that keeps named sessions: one file each, one owner, written in the background, bounded in size."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ..bell import Bell
from ..checks import check_count, check_path
from ..errors import PathLike, SessionCorrupt, SessionError, SessionsLocked, SessionWriteError
from ..session_name import file_name
from .bounds import Bounds, kept_files
from .folder_lock import FolderLock
from .replacing import sweep

__all__ = ["SessionFolder"]

_WAITING = 256 << 20
"""Bytes of KV caches that may wait for the disk before a turn waits for it, too."""

_FOLLOWS = os.utime not in os.supports_follow_symlinks  # Windows

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

    def __init__(self, folder: PathLike, budget: int, limit: int | None) -> None:
        self.path = path = os.path.realpath(check_path("sessions_dir", folder))
        self._lock = FolderLock(folder, path)
        self._changing = threading.Lock()  # a file there, or the lock
        self._bounds = Bounds(path, budget, limit, self._changing)
        self._mutex = threading.Lock()  # around what follows
        self._waiting: dict[str, _Job] = {}  # the first to come is the first to go
        self._failed: dict[str, tuple[_Job, SessionError]] = {}
        self._writing: tuple[str, _Job] | None = None
        self._writer: threading.Thread | None = None
        self._bell = Bell()  # some of that has changed
        self._process = os.getpid()

    @classmethod
    def open(cls, folder: PathLike, budget: int, limit: int | None = None) -> SessionFolder:
        """Take a folder for this bridge alone.

        Args:
            folder: made where it is missing, readable by its owner alone.
            budget: bytes of all files together; beyond it the least recently used sessions give up their KV
                caches, but never the newest.
            limit: the most sessions; beyond it the least recently used are dropped. None keeps all.

        Raises:
            InvalidInput: that is no path, or no such number.
            SessionsLocked: another bridge has the folder, in this process or another.
            SessionWriteError: it cannot be made or written to.
        """
        check_count("sessions_disk", budget)
        if limit is not None:
            check_count("sessions_limit", limit, least=1)
        opened = cls(folder, budget, limit)
        opened._lock.hold()
        sweep(opened.path)
        return opened

    # what is there

    def file(self, name: str) -> str:
        """Path of a session's file, whether it is there or not."""
        return os.path.join(self.path, file_name(name))

    def names(self) -> list[str]:
        """Of all sessions that have a file or are about to, the least recently used first.

        Raises:
            SessionCorrupt: the folder cannot be read.
        """
        with self._mutex:
            soon = [*([self._writing[0]] if self._writing else []), *self._waiting]
        return list(dict.fromkeys([file.name for file in kept_files(self.path)] + soon))

    @property
    def era(self) -> object:
        """Another one where the folder was removed since it was last asked: its files are gone."""
        return self._lock.era if self._lock.is_there else object()

    @property
    def is_writer(self) -> bool:
        """Whether the thread that asks is the one that writes: it cannot wait for itself."""
        return self._writer is threading.current_thread()

    def has(self, name: str) -> bool:
        """Whether something has a session's file name, once what waits is written.

        Raises:
            SessionCorrupt: that cannot be told.
        """
        self._settle(name)
        path = self.file(name)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error
        return True

    # keeping

    def keep(self, name: str, write: Callable[[str], object], n_bytes: int) -> None:
        """Have a session written soon; a newer one takes the place of one that still waits.

        ``write`` makes the whole file at the path it is given, or leaves the old one. It is called from
        another thread. Where more memory waits than is good, this waits for the disk.
        """
        self._refuse_waiting()
        job = _Job(write, n_bytes)
        self._bell.wait(lambda: self._has_room(name, n_bytes))
        with self._mutex:
            self._waiting[name] = job
            self._failed.pop(name, None)
        self._start()

    def touch(self, name: str) -> None:
        """Note that a session was used now."""
        with contextlib.suppress(OSError), self._changing:
            os.utime(self.file(name), follow_symlinks=_FOLLOWS)

    def drop(self, name: str) -> None:
        """Remove a session's file, and what waits to become one.

        Raises:
            SessionWriteError: the file cannot be removed, or is a link or no file.
        """
        with self._mutex:
            self._waiting.pop(name, None)
            self._failed.pop(name, None)
        self._settle(name)
        path = self.file(name)
        try:
            with self._changing:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    raise SessionWriteError(path, "not a file of a session: remove it yourself")
                self._lock.hold()
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if isinstance(error, SessionError):
                raise
            raise SessionWriteError(path, f"cannot be removed: {error.strerror}") from error

    def flush(self) -> None:
        """Wait until all is on the disk; what failed before is tried once more.

        Raises:
            SessionWriteError: the first that cannot be written. It stays in memory, for another try.
        """
        self._refuse_waiting()
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

    def _refuse_waiting(self) -> None:
        """Refuse to wait where it would be for ever.

        Raises:
            SessionsLocked: in a fork: the parent has the folder, and the writer.
            SessionWriteError: in the writer's own thread, from a handler of its log messages, say.
        """
        if os.getpid() != self._process:
            raise SessionsLocked(self.path)
        if self.is_writer:
            raise SessionWriteError(
                self.path, "called from the thread that writes it: ask in another one"
            )

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
        path = self.file(name)
        try:
            with self._changing:
                self._lock.hold()  # somebody may have removed the folder
            _refuse_foreign(path)
            job.write(path)
        except SessionError as error:
            _log.error("session %r is not on the disk: %s", name, error)
            return error
        except Exception as error:
            _log.exception("session %r is not on the disk", name)
            return SessionWriteError(path, f"cannot be written: {error}")
        try:
            self._bounds.keep(name)
        except (SessionError, OSError) as error:
            _log.warning("%s cannot be kept within its bounds: %s", self.path, error)
        return None

    def _settle(self, name: str) -> None:
        """Wait until a session's newest state is on the disk, or could not get there."""
        self._refuse_waiting()
        self._bell.wait(lambda: self._is_settled(name))

    def _is_settled(self, name: str) -> bool:
        self._start()
        with self._mutex:
            writing = self._writing is not None and self._writing[0] == name
            return name not in self._waiting and not writing


def _refuse_foreign(path: str) -> None:
    """Refuse to write where something lies that is no session file.

    Raises:
        SessionWriteError.
    """
    from .format import state_bytes  # 8 ms with json, which only files need

    if os.path.lexists(path) and state_bytes(path) is None:
        raise SessionWriteError(
            path, "no session file is in its place, and stays: move it, or delete() the session"
        )
