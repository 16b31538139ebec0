"""A folder that keeps named sessions: one file each, one owner, written in the background, limited in size."""

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
from .bounds import Bounds, Footers, kept_files
from .folder_lock import FolderLock
from .replacing import sweep

__all__ = ["SessionFolder"]

_WAITING = 256 << 20
"""Bytes of KV caches that may wait for the disk before a turn has to wait too."""

_FOLLOWS = os.utime not in os.supports_follow_symlinks  # Windows

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A session to be written: the function that writes it to a path, and the memory it holds until then."""

    write: Callable[[str], object]
    n_bytes: int


class SessionFolder:
    """The files of named sessions. One thread at a time calls it; another thread writes.

    Create it with :meth:`open`.

    Attributes:
        path: path of the folder.
    """

    def __init__(self, folder: PathLike, budget: int, limit: int | None) -> None:
        self.path = path = os.path.realpath(check_path("sessions_dir", folder))
        self._lock = FolderLock(folder, path)
        self._changing = threading.Lock()  # held to change a file there, or the lock
        self._footers = Footers()
        self._bounds = Bounds(path, budget, limit, self._changing, self._footers)
        # Guards what follows; a signal handler may look at it while its thread holds it.
        self._mutex = threading.RLock()
        self._waiting: dict[str, _Job] = {}  # first in, first out
        self._failed: dict[str, tuple[_Job, SessionError]] = {}
        self._writing: tuple[str, _Job] | None = None
        self._writer: threading.Thread | None = None
        self._bell = Bell()  # rung when any of that changes
        self._needed = self._ending = False
        self._process = os.getpid()

    @classmethod
    def open(cls, folder: PathLike, budget: int, limit: int | None = None) -> SessionFolder:
        """Take a folder for this bridge alone.

        Args:
            folder: created if it is missing, readable only by its owner.
            budget: bytes of all files together; beyond it the least recently used sessions, but never the newest,
                give up their KV caches.
            limit: the most sessions; beyond it the least recently used are deleted. None keeps all of them.

        Raises:
            InvalidInput: not a path, or not a valid number.
            SessionsLocked: another bridge, in this process or another, uses the folder.
            SessionWriteError: it cannot be created or written to.
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
        """Path of a session's file, whether or not it exists."""
        return os.path.join(self.path, file_name(name))

    def names(self) -> list[str]:
        """Names of all sessions that have a file or soon will, least recently used first.

        Files without a session's footer are not sessions, whatever their names.

        Raises:
            SessionCorrupt: the folder cannot be read.
        """
        soon: list[str] = []
        if (
            os.getpid() == self._process
        ):  # a forked process may have got the lock as the writer held it
            with self._mutex:
                soon = [*([self._writing[0]] if self._writing else []), *self._waiting]
        kept = self._footers.own(kept_files(self.path))
        return list(dict.fromkeys([file.name for file in kept] + soon))

    @property
    def era(self) -> object:
        """Changes if the folder was removed since the last call, and its files with it."""
        return self._lock.era if self._lock.is_there else object()

    @property
    def is_writer(self) -> bool:
        """Whether the calling thread is the writer, which cannot wait for itself."""
        return self._writer is threading.current_thread()

    def has(self, name: str) -> bool:
        """Whether there is a file with a session's name. Waits until that session is written.

        Raises:
            SessionCorrupt: the path cannot be checked.
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

    @property
    def dropped(self) -> frozenset[str]:
        """Sessions that were deleted because there were too many, and not written since."""
        return frozenset(self._bounds.dropped)

    # keeping

    def keep(self, name: str, write: Callable[[str], object], n_bytes: int) -> None:
        """Queue a session to be written; a newer state replaces one that still waits.

        ``write`` writes the whole file at the given path or leaves the old one. It is called from
        another thread. If too much memory is queued, this waits for the disk.
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
        """Remove a session's file and its queued state.

        Raises:
            SessionWriteError: the file cannot be removed, or is not a regular file.
        """
        with self._mutex:
            self._waiting.pop(name, None)
            self._failed.pop(name, None)
        self._settle(name)
        path = self.file(name)
        try:
            with self._changing:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    raise SessionWriteError(path, "not a session file: remove it yourself")
                self._lock.hold()
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if isinstance(error, SessionError):
                raise
            raise SessionWriteError(path, f"cannot be removed: {error.strerror}") from error

    def flush(self) -> None:
        """Wait until everything is on the disk. What failed before is tried again.

        Raises:
            SessionWriteError: a session cannot be written; its notes name the others. They stay in memory for another try.
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
            first, *others = failed
            for other in others:
                first.add_note(f"also: {other}")
            raise first

    def close(self) -> None:
        """Write what is queued, then release the folder.

        Raises:
            SessionWriteError: as in :meth:`flush`; the folder is released anyway.
        """
        if os.getpid() != self._process:
            return  # forked: the parent has the folder and the writer
        self._ending = True
        if self._needed:
            return
        try:
            self.flush()
        finally:
            self._lock.release()

    def need(self) -> None:
        """Let :meth:`close` wait for :meth:`spare`: a call that is still running will keep its conversation here."""
        self._needed = True

    def spare(self) -> None:
        """Undo :meth:`need`, and close the folder if it was closed meanwhile.

        Raises:
            SessionWriteError: as in :meth:`close`.
        """
        needed, self._needed = self._needed, False
        if needed and self._ending:
            self.close()

    def _refuse_waiting(self) -> None:
        """Refuse to wait if that would never end.

        Raises:
            SessionsLocked: in a forked process: the parent has the folder and the writer.
            SessionWriteError: in the writer's own thread, such as in a handler of its log messages.
        """
        if os.getpid() != self._process:
            raise SessionsLocked(self.path)
        if self.is_writer:
            raise SessionWriteError(
                self.path, "called from the thread that writes it: call from another thread"
            )

    # the writer

    def _has_room(self, newer: str, n_bytes: int) -> bool:
        """Whether a newer state of a session may be queued."""
        self._start()
        with self._mutex:
            jobs = [job for name, job in self._waiting.items() if name != newer]
            jobs += [self._writing[1]] if self._writing else []
            backlog = sum(job.n_bytes for job in jobs)
        return backlog == 0 or backlog + n_bytes <= _WAITING

    def _is_idle(self) -> bool:
        """Whether everything is written. Starts the writer if needed."""
        self._start()
        with self._mutex:
            return not self._waiting and self._writing is None

    def _start(self) -> None:
        """Start the writer if there is something to write and none is running."""
        if not self._waiting:
            return
        # Not a daemon: the interpreter waits for it when it ends, so conversations reach the disk even if
        # nobody closed the bridge. It ends as soon as there is nothing to write.
        fresh = threading.Thread(
            target=lambda: self._write_all(fresh), name="llama-bridge-sessions"
        )
        with self._mutex:
            writer = self._writer
            # A thread whose start was interrupted is not alive and never will be.
            at_work = writer is not None and (writer.is_alive() or self._writing is not None)
            if at_work or not self._waiting:
                return
            self._writer = fresh
        try:
            fresh.start()
        except RuntimeError:  # the interpreter is ending
            self._write_all(fresh)

    def _write_all(self, writer: threading.Thread) -> None:
        while True:
            with self._mutex:
                if self._writer is not writer:
                    return  # another writer replaced this one before it began
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
            _log.error("session %r was not written: %s", name, error)
            return error
        except Exception as error:
            _log.exception("session %r was not written", name)
            return SessionWriteError(path, f"cannot be written: {error}")
        try:
            self._bounds.keep(name)
        except (SessionError, OSError) as error:
            _log.warning("%s cannot be kept within its limits: %s", self.path, error)
        return None

    def _settle(self, name: str) -> None:
        """Wait until a session's newest state is written or has failed."""
        self._refuse_waiting()
        self._bell.wait(lambda: self._is_settled(name))

    def _is_settled(self, name: str) -> bool:
        self._start()
        with self._mutex:
            writing = self._writing is not None and self._writing[0] == name
            return name not in self._waiting and not writing


def _refuse_foreign(path: str) -> None:
    """Refuse to overwrite something that is not a session file.

    Raises:
        SessionWriteError.
    """
    from .format import state_bytes  # 8 ms with json: only files need it

    if os.path.lexists(path) and state_bytes(path) is None:
        raise SessionWriteError(
            path, "this is not a session file, and is left alone: move it, or delete() the session"
        )
