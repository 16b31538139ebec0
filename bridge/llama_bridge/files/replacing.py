"""Replaces a file completely or not at all, and removes what a killed process left behind."""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, TypeVar

from ..checks import check_path
from ..errors import PathLike, SessionError, SessionWriteError
from .locking import try_lock

__all__ = ["MAGIC", "OPEN_SAFELY", "replace_file", "sweep"]

T = TypeVar("T")

MAGIC = b"qsgg"
"""How a session file and its partial file begin: llama.cpp's 0x67677371, little-endian."""

OPEN_SAFELY = (
    getattr(os, "O_BINARY", 0)  # Windows
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
"""Flags for an ``open`` that follows no link and does not wait for the other end of a pipe."""

_PREFIX = ".llama-bridge-"
_PART = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{8}-[0-9a-f]{16}\.part")


def replace_file(path: PathLike, fill: Callable[[BinaryIO], T], *, follow: bool = True) -> T:
    """Let ``fill`` write a new file, which replaces the old one once it is on the disk; returns what ``fill`` returns.

    If anything fails, the old file is unchanged and nothing is left beside it. What a killed process left of the same
    file is removed.

    Args:
        path: path of the file.
        fill: writes the new file.
        follow: whether a link there is followed to the file to replace; otherwise it is refused.

    Raises:
        SessionWriteError: the folder or file cannot be written, or the disk is full.
    """
    given = check_path("path", path)
    part = ""
    try:
        target = os.path.realpath(given) if follow else os.path.abspath(given)
        folder, name = os.path.split(target)
        mode = _mode(target)
        sweep(folder, name)
        part = os.path.join(folder, f"{_begins(name)}{os.urandom(8).hex()}.part")
        with open(part, "xb") as file:
            with suppress(OSError):  # without locks, it looks like one that a killed process left
                try_lock(file.fileno())
            if mode is not None:
                os.chmod(part, mode)
            result = fill(file)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "posix":
                os.replace(part, target)  # while it is locked, so no sweep removes it
        if os.name != "posix":
            os.replace(part, target)  # Windows cannot move an open file
        _sync(folder)
        return result
    except BaseException as error:
        with suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError) and not isinstance(error, SessionError):
            why = error.strerror or str(error)
            raise SessionWriteError(path, f"cannot be written: {why}") from error
        raise


def _mode(target: str) -> int | None:
    """Permissions of the file to replace, if there is one."""
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        raise OSError(None, "this is a link, which is not followed: remove it")
    if not stat.S_ISREG(status.st_mode):  # a folder, or a device that would be replaced
        raise OSError(None, "not a regular file; give the path of one")
    return stat.S_IMODE(status.st_mode)


def _begins(name: str) -> str:
    """How the names of a file's partial files begin. It depends only on the file's name."""
    return f"{_PREFIX}{zlib.crc32(os.fsencode(name)):08x}-"


def _sync(folder: str) -> None:
    # Makes the replacement itself durable. Windows cannot open a folder and does not need this.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: str, name: str | None = None) -> None:
    """Remove partial files that killed processes left in a folder, all or those of one file.

    Removes only what :func:`replace_file` makes: regular files with its names that begin like a session and that
    nobody is writing.
    """
    begins = _PREFIX if name is None else _begins(name)
    with suppress(OSError):
        for entry in os.listdir(folder):
            if entry.startswith(begins) and _PART.fullmatch(entry):
                with suppress(OSError):
                    part = os.path.join(folder, entry)
                    if _is_left(part):
                        os.unlink(part)


def _is_left(part: str) -> bool:
    if not stat.S_ISREG(os.lstat(part).st_mode):
        return False
    with open(os.open(part, os.O_RDWR | OPEN_SAFELY), "r+b", buffering=0) as file:
        return MAGIC.startswith(file.read(len(MAGIC))) and try_lock(file.fileno())
