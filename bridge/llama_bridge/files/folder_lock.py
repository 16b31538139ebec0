"""One owner for a folder: locks that hold even if somebody removes what was locked."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ..errors import PathLike, SessionsLocked, SessionWriteError
from .locking import try_lock, unlock
from .replacing import OPEN_SAFELY

__all__ = ["FolderLock"]

_FILE = ".lock"
_Identity = tuple[int, int]


class FolderLock:
    """A folder that belongs to one bridge.

    It has two locks: one on the file ``.lock``, which works on every system, and one on the folder itself, if the
    system supports that. So removing ``.lock`` lets nobody in.

    Attributes:
        era: changes when the folder was removed and locked again: its files are gone.
    """

    def __init__(self, given: PathLike, folder: str) -> None:
        self._handles: dict[str, int] = {}
        self._locked: dict[str, _Identity] = {}
        self._lost = False  # whether another bridge has it, with its own files
        self._process = os.getpid()
        self._given = given
        self._folder = folder
        self._file = os.path.join(folder, _FILE)
        self.era = object()

    def hold(self) -> None:
        """Create the folder if it is missing, and lock it or whatever was removed since.

        Raises:
            SessionsLocked: another bridge has it.
            SessionWriteError: it cannot be created or written to.
        """
        if self._lost:
            raise SessionsLocked(self._given)
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if not self._holds(self._folder):
                self.era = object()
                self._let_go(self._folder)
                self._lock_folder()
            if not self._holds(self._file):
                self._let_go(self._file)
                self._lock_file()
        except (SessionsLocked, SessionWriteError) as error:
            self._lost = isinstance(error, SessionsLocked)
            self.release()
            raise
        except OSError as error:
            self.release()
            why = error.strerror or str(error)
            if isinstance(error, FileExistsError | NotADirectoryError):
                why = "there is a file in its place"
            raise SessionWriteError(
                self._given, f"cannot be used as sessions_dir: {why}"
            ) from error

    @property
    def is_there(self) -> bool:
        """Whether the folder is still the one that was locked."""
        return self._holds(self._folder)

    def release(self) -> None:
        """Let others have it. In a forked process, the parent keeps it."""
        for path in list(self._handles):
            self._let_go(path)
        self._locked.clear()

    def __del__(self) -> None:
        self.release()

    def _holds(self, path: str) -> bool:
        # What is locked is open, so no other file gets its number.
        try:
            return self._locked.get(path) == _identity(os.lstat(path))
        except OSError:
            return False

    def _lock_folder(self) -> None:
        if os.name == "posix":
            self._handles[self._folder] = handle = os.open(self._folder, os.O_RDONLY | OPEN_SAFELY)
            with suppress(OSError):  # some file systems, such as NFS, cannot lock folders
                if not try_lock(handle):
                    raise SessionsLocked(self._given)
        self._locked[self._folder] = _identity(os.lstat(self._folder))

    def _lock_file(self) -> None:
        path = self._file
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):  # a link would be followed on Windows
                raise OSError(None, f"its {_FILE} is not a regular file: remove it")
        flags = os.O_RDWR | os.O_CREAT | OPEN_SAFELY
        self._handles[path] = handle = os.open(path, flags, 0o600)
        if not try_lock(handle):
            raise SessionsLocked(self._given)
        self._locked[path] = _identity(os.fstat(handle))

    def _let_go(self, path: str) -> None:
        self._locked.pop(path, None)
        handle = self._handles.pop(path, None)
        if handle is None:
            return
        with suppress(OSError):
            if os.getpid() == self._process:  # forked children share the lock
                unlock(handle)
        with suppress(OSError):
            os.close(handle)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
