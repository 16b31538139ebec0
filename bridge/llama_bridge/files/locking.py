"""Locks on open files. The system releases them when the process ends, however it ends."""

from __future__ import annotations

import errno
import sys

if sys.platform == "win32":
    import msvcrt
elif sys.platform != "emscripten":
    import fcntl

__all__ = ["try_lock", "unlock"]


def try_lock(handle: int) -> bool:
    """Lock an open file; False if it is already locked, in this process or another.

    Raises:
        OSError: the file system does not support locks.
    """
    if sys.platform == "win32":
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            return False
    elif sys.platform != "emscripten":  # a page is the only process
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def unlock(handle: int) -> None:
    """Unlock an open file, also for the copies in forked children."""
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    elif sys.platform != "emscripten":
        fcntl.flock(handle, fcntl.LOCK_UN)
