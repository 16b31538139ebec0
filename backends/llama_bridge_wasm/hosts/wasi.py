"""All that the guest sees of the outside: the files of its model, an adapter while that is loaded, and a log to write.

These are the functions of WASI preview 1 (``wasi_snapshot_preview1``) that llama.wasm imports, except clock and random
bytes, which each host provides. There is no other file, no directory listing, no environment, no arguments and no
network: they are not forbidden but absent. Nothing here raises into the guest: :attr:`World.failure` keeps a failure of
the host, and the guest gets an errno.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from llama_bridge.later_signals import handle_signals

from ..abi import BadPointer

__all__ = ["MAX_OPEN_FILES", "WASI", "GuestFile", "Memory", "World"]

WASI = "wasi_snapshot_preview1"
MAX_OPEN_FILES = 16
_MAX_VECTORS = 1024
_MAX_SMALL = 1 << 16
_LONGEST_NAME = 64
_PIECE = 4 << 20
"""Bytes read at once."""

_STDOUT, _STDERR, _ROOT = 1, 2, 3
_OK, _BADF, _FAULT, _INVAL, _IO, _MFILE, _NOENT, _NOSYS = 0, 8, 21, 28, 29, 33, 44, 52
_NOTCAPABLE = 76
_CHARACTER_DEVICE, _DIRECTORY, _REGULAR_FILE = 2, 3, 4

_RIGHT_READ, _RIGHT_SEEK, _RIGHT_TELL, _RIGHT_WRITE = 1 << 1, 1 << 2, 1 << 5, 1 << 6
_RIGHT_OPEN, _RIGHT_PATH_STAT, _RIGHT_STAT = 1 << 13, 1 << 18, 1 << 21
_FILE_RIGHTS = _RIGHT_READ | _RIGHT_SEEK | _RIGHT_TELL | _RIGHT_STAT
_ROOT_RIGHTS = _RIGHT_OPEN | _RIGHT_PATH_STAT | _RIGHT_STAT

_FDSTAT = struct.Struct("<BxH4xQQ")
_FILESTAT = struct.Struct("<QQB7xQQQQQ")
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class Memory(Protocol):
    """A host's access to guest memory. Each call outside it raises :class:`BadPointer`."""

    def read(self, pointer: int, size: int) -> bytearray:
        """Copy a part of it."""
        ...

    def write(self, pointer: int, data: bytes) -> None:
        """Copy into it."""
        ...

    def fill(self, pointer: int, size: int, file: BinaryIO) -> int:
        """Read from a file straight into it, ``size`` bytes or to the end; return how many were read."""
        ...


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A file that a guest may read.

    Attributes:
        open: opens it unbuffered.
        size: in bytes.
        path: its name for people.
        on_read: called with the number of bytes after each read. If it raises, that is a failure of the host.
        more: the further files of a split model.
    """

    open: Callable[[], BinaryIO]
    size: int
    path: Path
    on_read: Callable[[int], object] | None = None
    more: tuple[GuestFile, ...] = ()

    @classmethod
    def at(cls, path: Path) -> GuestFile:
        """A file on the disk."""
        return cls(partial(io.FileIO, path, "r"), path.stat().st_size, path)


class World:
    """The imports of one guest.

    Args:
        files: the files it may read, by what the guest calls them, without the leading slash.
        memory: the guest's memory.
        log: receives what the guest writes to standard output and error.
    """

    def __init__(
        self,
        files: Mapping[str, GuestFile],
        memory: Memory,
        log: Callable[[bytes], None],
    ) -> None:
        self._files = {name.encode(): file for name, file in files.items()}
        self._most_open = MAX_OPEN_FILES + len(files) - 1  # llama.cpp opens all parts of a model
        self._memory = memory
        self._log = log
        self._open: dict[int, tuple[BinaryIO, GuestFile]] = {}
        self.exit_code: int | None = None
        """What the guest passed to ``proc_exit``; after that the host must not call it."""
        self.failure: BaseException | None = None
        """The first Python exception inside an import."""

    def imports(self) -> dict[str, Callable[..., int | None]]:
        """Name to function; for a missing one, use :meth:`unknown`."""
        names = [name for name in dir(self) if name.startswith("_wasi_")]
        return {name.removeprefix("_wasi_"): self._shielded(getattr(self, name)) for name in names}

    @staticmethod
    def unknown(*_: int) -> int:
        """Any other WASI function: not implemented."""
        return _NOSYS

    def lend(self, name: str, file: GuestFile) -> None:
        """Let the guest read one more file until it is taken back."""
        self._files[name.encode()] = file

    def take_back(self, name: str) -> None:
        """Take a file away again, and close it if the guest left it open."""
        file = self._files.pop(name.encode(), None)
        for number in [number for number, (_, of) in self._open.items() if of is file]:
            self._open.pop(number)[0].close()

    def close(self) -> None:
        """Close the files the guest left open."""
        while self._open:
            self._open.popitem()[1][0].close()

    def _shielded(self, function: Callable[..., int | None]) -> Callable[..., int | None]:
        def call(*args: int) -> int | None:
            try:
                handle_signals()
                return function(*args)
            except BadPointer:
                return _FAULT
            except (
                BaseException
            ) as error:  # KeyboardInterrupt too: the host raises it after the call
                self.failure = self.failure or error
                return _IO

        return call

    # files

    def _wasi_fd_prestat_get(self, fd: int, out: int) -> int:
        if fd != _ROOT:
            return _BADF
        self._put(out, struct.pack("<II", 0, 1))
        return _OK

    def _wasi_fd_prestat_dir_name(self, fd: int, out: int, size: int) -> int:
        if fd != _ROOT or _u32(size) < 1:
            return _BADF
        self._put(out, b"/")
        return _OK

    def _wasi_path_open(
        self,
        fd: int,
        _lookup: int,
        path: int,
        path_size: int,
        creation: int,
        rights: int,
        _inheriting: int,
        flags: int,
        out: int,
    ) -> int:
        if fd != _ROOT:
            return _BADF
        if creation or flags or rights & _RIGHT_WRITE:
            return _NOTCAPABLE
        file = self._named(path, path_size)
        if file is None:
            return _NOENT
        if len(self._open) >= self._most_open:
            return _MFILE
        number = next(
            n for n in range(_ROOT + 1, _ROOT + 2 + self._most_open) if n not in self._open
        )
        self._open[number] = file.open(), file
        self._put(out, _U32.pack(number))
        return _OK

    def _wasi_fd_close(self, fd: int) -> int:
        opened = self._open.pop(fd, None)
        if opened is None:
            return _BADF
        opened[0].close()
        return _OK

    def _wasi_fd_read(self, fd: int, vectors: int, count: int, out: int) -> int:
        opened = self._open.get(fd)
        if opened is None:
            return _BADF
        total = 0
        for pointer, size in self._vectors(vectors, count):
            done = self._fill(pointer, size, *opened)
            total += done
            if done < size:
                break
        self._put(out, _U32.pack(total))
        return _OK

    def _fill(self, pointer: int, size: int, file: BinaryIO, of: GuestFile) -> int:
        """Read a large tensor in pieces, to report progress."""
        done = 0
        while done < size:
            wanted = min(size - done, _PIECE)
            n = self._memory.fill(pointer + done, wanted, file)
            done += n
            if of.on_read is not None:
                of.on_read(n)
            if n < wanted:
                break
        return done

    def _wasi_fd_seek(self, fd: int, offset: int, whence: int, out: int) -> int:
        opened = self._open.get(fd)
        if opened is None:
            return _BADF
        file, of = opened
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            return _INVAL
        base = (0, file.tell(), of.size)[whence]
        if base + offset < 0:
            return _INVAL
        self._put(out, _U64.pack(file.seek(base + offset)))
        return _OK

    def _wasi_fd_fdstat_get(self, fd: int, out: int) -> int:
        if fd in self._open:
            stat = _FDSTAT.pack(_REGULAR_FILE, 0, _FILE_RIGHTS, 0)
        elif fd == _ROOT:
            stat = _FDSTAT.pack(_DIRECTORY, 0, _ROOT_RIGHTS, _FILE_RIGHTS)
        elif fd in (_STDOUT, _STDERR):
            stat = _FDSTAT.pack(_CHARACTER_DEVICE, 0, _RIGHT_WRITE, 0)
        else:
            return _BADF
        self._put(out, stat)
        return _OK

    def _wasi_fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        return _NOTCAPABLE

    def _wasi_fd_filestat_get(self, fd: int, out: int) -> int:
        opened = self._open.get(fd)
        return _BADF if opened is None else self._put_file_stat(out, opened[1])

    def _wasi_path_filestat_get(self, fd: int, _flags: int, path: int, size: int, out: int) -> int:
        if fd != _ROOT:
            return _BADF
        file = self._named(path, size)
        return _NOENT if file is None else self._put_file_stat(out, file)

    def _wasi_fd_readdir(self, fd: int, buffer: int, size: int, cookie: int, out: int) -> int:
        return _NOTCAPABLE

    def _named(self, path: int, size: int) -> GuestFile | None:
        # Compared literally: nothing is resolved, so no path can lead elsewhere.
        if _u32(size) > _LONGEST_NAME:
            return None
        return self._files.get(bytes(self._memory.read(_u32(path), size)))

    def _put_file_stat(self, out: int, file: GuestFile) -> int:
        stat = _FILESTAT.pack(0, 0, _REGULAR_FILE, 1, file.size, 0, 0, 0)
        self._put(out, stat)
        return _OK

    # the log

    def _wasi_fd_write(self, fd: int, vectors: int, count: int, out: int) -> int:
        if fd not in (_STDOUT, _STDERR):
            return _BADF
        text = bytearray()
        for pointer, size in self._vectors(vectors, count):
            text += self._memory.read(pointer, min(size, _MAX_SMALL - len(text)))
        self._log(bytes(text))
        self._put(out, _U32.pack(len(text)))
        return _OK

    def _vectors(self, pointer: int, count: int) -> list[tuple[int, int]]:
        if _u32(count) > _MAX_VECTORS:
            raise BadPointer(_u32(pointer), 8 * _u32(count))
        table = self._memory.read(_u32(pointer), 8 * count)
        return list(struct.iter_unpack("<II", table))

    # the rest

    def _put(self, pointer: int, data: bytes) -> None:
        self._memory.write(_u32(pointer), data)

    def _wasi_environ_sizes_get(self, count: int, size: int) -> int:
        self._put(count, _U32.pack(0))
        self._put(size, _U32.pack(0))
        return _OK

    def _wasi_environ_get(self, environ: int, buffer: int) -> int:
        return _OK

    def _wasi_proc_exit(self, code: int) -> None:
        # After returning, the guest runs into `unreachable`: a trap, and no exception crosses foreign frames.
        self.exit_code = code


def _u32(value: int) -> int:
    """Hosts pass i32 as signed; a pointer is unsigned."""
    return value & 0xFFFFFFFF
