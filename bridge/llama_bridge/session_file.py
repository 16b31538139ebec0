"""The session file: what llama.cpp's own sequence loader reads, then what it does not check.

.. code-block:: text

    state     the bytes of llama_state_seq_save_file: "ggsq", version, token ledger, memory
    manifest  JSON: what the state was made with (UTF-8)
    footer    48 bytes, little-endian:
              8 magic "LLBRIDGE" | u32 format version | u32 zero | u64 state bytes | u64 manifest bytes
              | 16 XXH3-128 (seed 0, big-endian) over all that comes before

llama.cpp ignores what follows the state, so the same file loads there. The digest finds damage, not forgery: no
digest without a key could. XXH3, because SHA-256 took six times as long as reading the file.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from .errors import PathLike, SessionCorrupt, SessionMismatch, SessionNotFound, SessionWriteError

__all__ = ["FORMAT", "SessionFile", "compare", "read_session_file", "write_session_file"]

FORMAT = 1
_MAGIC = b"LLBRIDGE"
_FOOTER = struct.Struct("<8sIIQQ16s")
_STATE_HEAD = struct.Struct("<III")
_STATE_MAGIC = 0x67677371
_DIGEST_BYTES = 16
_PIECE = 1 << 18
_MAX_MANIFEST = 64 << 20


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A session file whose digest was checked.

    Attributes:
        path: where it is.
        manifest: what it was saved with.
        tokens: the token ledger, from the state itself.
        state_version: llama.cpp's version of the sequence format.
        n_bytes: size of the file.
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)
    tokens: list[int] = field(repr=False)
    state_version: int
    n_bytes: int


def write_session_file(
    path: PathLike, save_state: Callable[[str], int], manifest: Mapping[str, Any]
) -> int:
    """Write a session file whole or not at all; returns its size in bytes.

    ``save_state`` writes the state to the path it is given. The bytes are on the disk before they take the
    old file's place.

    Raises:
        SessionWriteError: the folder or file cannot be written, or the disk is full.
    """
    with _replacement(path) as temporary:
        save_state(temporary)
        text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()
        with open(temporary, "r+b") as file:
            n_state = file.seek(0, os.SEEK_END)
            file.write(text)
            file.write(_FOOTER.pack(_MAGIC, FORMAT, 0, n_state, len(text), b"")[:-_DIGEST_BYTES])
            file.flush()
            file.write(_digest(file.fileno(), file.tell()))
            file.flush()
            os.fsync(file.fileno())
            return file.tell()


@contextmanager
def _replacement(path: PathLike) -> Generator[str]:
    """A new file beside ``path`` that takes its place at the end, or leaves no trace."""
    target = str(Path(path).expanduser().resolve())
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(None, "a directory; give the path of a file")
        mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else None
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            if mode is not None:
                os.chmod(temporary, mode)
            yield temporary
            os.replace(temporary, target)
            _sync_folder(os.path.dirname(target))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except SessionWriteError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise SessionWriteError(path, f"cannot be written: {why}") from error


def _sync_folder(folder: str) -> None:
    # Makes the replacement itself durable; Windows cannot open a folder, and does not need it.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_session_file(path: PathLike) -> SessionFile:
    """Read and check all of a session file but the KV bytes, which only llama.cpp understands.

    Raises:
        SessionNotFound: no file there.
        SessionCorrupt: not a session file, truncated or altered.
        SessionMismatch: another version of the format.
    """
    real = Path(os.path.expanduser(os.fspath(path)))
    try:
        with real.open("rb") as file:
            return _read(path, real, file.fileno(), os.fstat(file.fileno()).st_size)
    except FileNotFoundError as error:
        raise SessionNotFound(path, "no such file") from error
    except OSError as error:
        raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error


def _read(path: PathLike, real: Path, fd: int, size: int) -> SessionFile:
    if size < _FOOTER.size + _STATE_HEAD.size:
        raise SessionCorrupt(path, f"not a session file: {size} bytes")
    footer = _pread(fd, _FOOTER.size, size - _FOOTER.size)
    magic, version, _, n_state, n_manifest, digest = _FOOTER.unpack(footer)
    if magic != _MAGIC:
        bare = _STATE_HEAD.unpack(_pread(fd, _STATE_HEAD.size, 0))[0] == _STATE_MAGIC
        what = (
            "a bare llama.cpp sequence file, or a truncated session"
            if bare
            else "no session footer"
        )
        raise SessionCorrupt(path, f"not a whole session file: {what}")
    if version != FORMAT:
        raise SessionMismatch(path, "format", version, FORMAT)
    if n_state + n_manifest + _FOOTER.size != size or n_manifest > _MAX_MANIFEST:
        raise SessionCorrupt(path, "its sizes contradict each other: truncated or altered")
    if _digest(fd, size - _DIGEST_BYTES) != digest:
        raise SessionCorrupt(
            path, "its digest does not match: altered or damaged since it was saved"
        )
    try:
        manifest: Any = json.loads(_pread(fd, n_manifest, n_state))
    except (ValueError, RecursionError) as error:
        raise SessionCorrupt(path, f"its manifest cannot be read: {error}") from error
    state_magic, state_version, n_tokens = _STATE_HEAD.unpack(_pread(fd, _STATE_HEAD.size, 0))
    if state_magic != _STATE_MAGIC or _STATE_HEAD.size + 4 * n_tokens > n_state:
        raise SessionCorrupt(path, "its KV state is not a llama.cpp sequence")
    if not isinstance(manifest, dict):
        raise SessionCorrupt(path, "its manifest is not a JSON object")
    raw = _pread(fd, 4 * n_tokens, _STATE_HEAD.size)
    return SessionFile(
        real,
        cast("dict[str, Any]", manifest),
        list(struct.unpack(f"<{n_tokens}i", raw)),
        state_version,
        size,
    )


def compare(
    path: PathLike, saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = ""
) -> None:
    """Compare all that ``current`` names, in its order.

    Raises:
        SessionMismatch: at the first field that differs.
    """
    for key, value in current.items():
        was = saved.get(key)
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", was if isinstance(was, dict) else {})
            compare(path, inner, cast("dict[str, Any]", value), f"{prefix}{key}.")
        elif was != value or type(was) is not type(value):
            raise SessionMismatch(path, f"{prefix}{key}", was, value)


def _digest(fd: int, size: int) -> bytes:
    """XXH3-128 of the first ``size`` bytes, in pieces that stay in the processor's cache."""
    import xxhash  # with the first file: a bridge that saves nothing does not need it

    state = xxhash.xxh3_128()
    for offset in range(0, size, _PIECE):
        state.update(_pread(fd, min(_PIECE, size - offset), offset))
    return state.digest()


if hasattr(os, "pread"):
    _pread = os.pread
else:  # Windows

    def _pread(fd: int, n: int, offset: int, /) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, n)
