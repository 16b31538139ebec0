"""Machine code of llama.wasm and chat.wasm, kept between runs: compiling takes seconds, loading it milliseconds.

Loading a file from here runs the code in it. So the folder must belong to this user alone (mode 0700), and a file's
SHA-256 is part of its name. If anything is wrong with folder or file, the code counts as not cached: the caller
compiles.

wasmtime has its own cache, ``Config.cache``. It is not used, for four reasons, tried with wasmtime 50.0.1. It trusts
what it finds: of 14 files with one bit flipped it ran 9 as machine code, compiled 4 again and failed with 1. Its
folder's mode comes from the umask, and it accepts a folder that everybody can write to. If the folder cannot be
created, that is an error instead of a compilation. And it does not tell whether it will compile, so no progress can be
shown. It also takes 34 ms of processor time and 48 MB to load llama.wasm. This cache takes 15 ms and 37 MB, because
wasmtime maps a file instead of unpacking a copy. wasmtime's saves disk (3.5 MB instead of 10.9) and keeps to a maximum
size, where this one keeps eight files. With either, two processes at once compile twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import stat
import tempfile
from pathlib import Path

from ..user_cache import user_cache

__all__ = ["CompiledCache", "cache_key", "default_folder"]

_KEEP = 8
_logger = logging.getLogger("llama_bridge.wasm")


def default_folder() -> Path | None:
    """The per-user cache folder of this system, or None if the user has none.

    ``XDG_CACHE_HOME`` counts on every system.
    """
    base = user_cache()
    return None if base is None else base / "compiled"


def cache_key(code: bytes, *made_with: str) -> str:
    """A name for the machine code of ``code``, with these versions and settings, on this processor."""
    parts = [hashlib.sha256(code).hexdigest(), *made_with, platform.system(), _processor()]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return platform.machine() + line
    except OSError:
        pass
    return platform.machine() + platform.processor()


class CompiledCache:
    """Files ``<key>-<sha256 of the content>.cwasm`` in one folder; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, key: str) -> Path | None:
        """An intact file for ``key``; damaged ones are removed."""
        if self._folder is None or not self._is_private(self._folder):
            return None
        for path in sorted(self._folder.glob(f"{key}-*.cwasm")):
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                continue
            if path.stem == f"{key}-{digest}":
                with contextlib.suppress(OSError):
                    path.touch()  # the newest ones are kept
                return path
            self.discard(path)
        return None

    def store(self, key: str, code: bytes | bytearray) -> None:
        """Keep ``code`` under ``key``. If the folder is not writable, do nothing."""
        folder = self._folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            _logger.debug("compiled code is not cached: %s", error)
            return
        if not self._is_private(folder):
            return
        target = folder / f"{key}-{hashlib.sha256(code).hexdigest()}.cwasm"
        try:
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(code)
                os.replace(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            _logger.debug("compiled code is not cached: %s", error)
            return
        self._prune(folder)

    def discard(self, path: Path) -> None:
        """Remove a file that turned out bad."""
        _logger.debug("removing damaged compiled code: %s", path)
        with contextlib.suppress(OSError):
            path.unlink()

    @staticmethod
    def _is_private(folder: Path) -> bool:
        try:
            found = folder.lstat()
        except OSError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return False
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
            _logger.warning("%s is open to other users: compiled code is not cached", folder)
            return False
        return True

    @staticmethod
    def _prune(folder: Path) -> None:
        with contextlib.suppress(OSError):
            files = sorted(folder.glob("*.cwasm"), key=lambda p: p.stat().st_mtime)
            for path in files[:-_KEEP]:
                path.unlink()
