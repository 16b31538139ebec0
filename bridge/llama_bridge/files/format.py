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
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..checks import check_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch, SessionNotFound, SessionWriteError
from ..models.file_kinds import BEGINNING, GGUF, file_kind
from .copy_memory import copy_memory

__all__ = [
    "FORMAT",
    "SessionFile",
    "check_size",
    "ends_as_session",
    "read_session_file",
    "write_session_file",
]

FORMAT = 1
_MAGIC = b"LLBRIDGE"
_FOOTER = struct.Struct("<8sIIQQ16s")
_STATE_HEAD = struct.Struct("<III")
_STATE_MAGIC = 0x67677371
_DIGEST_BYTES = 16
_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_NOTHING = memoryview(bytearray())
_PIECE = 1 << 20
_MAX_MANIFEST = 16 << 20  # JSON takes up to 30 times its size in memory
_MAX_TOKENS = 1 << 24


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A session file whose digest was checked.

    Attributes:
        path: where it is.
        manifest: what it was saved with.
        tokens: the token ledger, from the state itself.
        state_version: llama.cpp's version of the sequence format.
        n_bytes: size of the file.
        state: the memory, behind the ``state_prefix`` bytes that were asked for; empty if none were.
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)
    tokens: list[int] = field(repr=False)
    state_version: int
    n_bytes: int
    state: memoryview = field(repr=False, default=_NOTHING)


def write_session_file(
    path: PathLike,
    manifest: Mapping[str, Any],
    tokens: Sequence[int],
    state: memoryview,
    state_version: int,
) -> int:
    """Write a session file whole or not at all; returns its size in bytes.

    ``state`` is the memory, without an engine's prefix. The bytes are on the disk before they take the old
    file's place.

    Raises:
        SessionWriteError: the folder or file cannot be written, or the disk is full.
    """
    import xxhash  # 5 ms with what it pulls in: a bridge that saves nothing does not pay for it

    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > _MAX_MANIFEST:  # nobody could load it
        raise SessionWriteError(
            path, f"its manifest would have {len(text)} bytes: too much was said"
        )
    head = _STATE_HEAD.pack(_STATE_MAGIC, state_version, len(tokens))
    head += struct.pack(f"<{len(tokens)}i", *tokens)
    n_state = len(head) + len(state)
    tail = text + _FOOTER.pack(_MAGIC, FORMAT, 0, n_state, len(text), b"")[:-_DIGEST_BYTES]
    digest = xxhash.xxh3_128()
    with _replacement(path) as file:
        for part in (head, state, tail):
            for start in range(0, len(part), _PIECE):
                piece = part[start : start + _PIECE]
                digest.update(piece)  # while it is in the processor's cache
                file.write(piece)
                _begin_writing(file, len(piece))
        file.write(digest.digest())
        return file.tell()


def _begin_writing(file: BinaryIO, n_last: int) -> None:
    # Linux takes this advice about unwritten pages as a wish to have them written: the disk works on one piece
    # while the next is copied, and fsync has little left to wait for.
    if n_last == _PIECE and hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), file.tell() - n_last, n_last, os.POSIX_FADV_DONTNEED)


@contextmanager
def _replacement(path: PathLike) -> Generator[BinaryIO]:
    """A new file beside ``path`` that takes its place, on the disk, at the end, or leaves no trace."""
    given = check_path("path", path)
    try:
        target = os.path.realpath(given)
        temporary = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.tmp")
        mode = None
        if os.path.lexists(target):
            status = os.stat(target)
            if not stat.S_ISREG(status.st_mode):  # a folder, or a device that would be replaced
                raise OSError(None, "not a regular file; give the path of one")
            mode = stat.S_IMODE(status.st_mode)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o666)
        try:
            with open(handle, "wb") as file:
                if mode is not None:
                    os.chmod(temporary, mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(os.path.dirname(target))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
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


def read_session_file(path: PathLike, *, state_prefix: int | None = None) -> SessionFile:
    """Read and check all of a session file but the KV bytes, which only llama.cpp understands.

    With a ``state_prefix``, they are kept too, behind so many bytes of room.

    Raises:
        SessionNotFound: no file there.
        SessionCorrupt: not a session file, truncated or altered.
        SessionMismatch: another version of the format.
    """
    real = check_path("path", path)
    try:
        mode = real.stat().st_mode
        if not stat.S_ISREG(mode):  # before it is opened: a pipe would wait for ever
            what = "this is a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise SessionCorrupt(path, f"{what}: give the path of a saved session")
        with real.open("rb", buffering=0) as file:
            return _read(path, real, file, state_prefix)
    except FileNotFoundError as error:
        raise SessionNotFound(path, "no such file") from error
    except OSError as error:
        raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error
    except struct.error as error:
        raise SessionCorrupt(path, "the file shrank while it was read") from error


def check_size(path: PathLike, size: int) -> None:
    """Refuse a file, a sparse one say, that would take this machine's memory.

    A state that was ever in a KV cache here leaves room for its copy.

    Raises:
        SessionCorrupt.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows refuses it itself
        return
    if 0 < memory < 2 * size:
        raise SessionCorrupt(
            path, f"not loaded: {size} bytes are more than half of all memory here"
        )


def _read(path: PathLike, real: Path, file: FileIO, state_prefix: int | None) -> SessionFile:
    size = os.fstat(file.fileno()).st_size
    if size < _FOOTER.size + _STATE_HEAD.size:
        raise _not_a_session(path, file, f"not a session file: {size} bytes")
    file.seek(size - _FOOTER.size)
    magic, version, _, n_state, n_manifest, digest = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _MAGIC:
        raise _not_a_session(path, file, "not a whole session file: no session footer")
    if version != FORMAT:
        raise SessionMismatch(path, "format", version, FORMAT)
    if n_state + n_manifest + _FOOTER.size != size or n_manifest > _MAX_MANIFEST:
        raise SessionCorrupt(path, "its sizes contradict each other: truncated or altered")
    check_size(path, size)
    data = _contents(path, file, size)
    if _digest(data[:-_DIGEST_BYTES]) != digest:
        raise SessionCorrupt(
            path, "its digest does not match: altered or damaged since it was saved"
        )
    try:
        manifest: Any = json.loads(bytes(data[n_state : n_state + n_manifest]))
    except (ValueError, RecursionError) as error:
        raise SessionCorrupt(path, f"its manifest cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise SessionCorrupt(path, "its manifest is not a JSON object")
    state_magic, state_version, n_tokens = _STATE_HEAD.unpack_from(data)
    start = _STATE_HEAD.size + 4 * n_tokens
    if state_magic != _STATE_MAGIC or start > n_state or n_tokens > _MAX_TOKENS:
        raise SessionCorrupt(path, "its KV state is not a llama.cpp sequence")
    tokens = list(struct.unpack_from(f"<{n_tokens}i", data, _STATE_HEAD.size))
    state = _NOTHING
    if state_prefix is not None:
        # The prefix overlaps the tokens, which were read: the state is neither moved nor copied.
        state = data[start - state_prefix : n_state]
    return SessionFile(real, cast("dict[str, Any]", manifest), tokens, state_version, size, state)


def _not_a_session(path: PathLike, file: FileIO, why: str) -> SessionCorrupt:
    """What a file without footer is, as far as its beginning tells."""
    file.seek(0)
    kind = file_kind(file.read(BEGINNING))
    if kind is None:
        return SessionCorrupt(path, why)
    if kind.name == "session":
        return SessionCorrupt(
            path,
            "not a whole session file: truncated, or a bare llama.cpp sequence file, which "
            "session_load(path, trust_unverified=True) takes",
        )
    way_out = f": {kind.way_out}" if kind.name == GGUF else ""
    return SessionCorrupt(path, f"this is {kind.what}, not a session{way_out}", kind.name)


def ends_as_session(file: BinaryIO) -> bool:
    """Whether an open file has the footer of a session file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER.size))
    return file.read(len(_MAGIC)) == _MAGIC


def _contents(path: PathLike, file: FileIO, size: int) -> memoryview:
    """The whole file, writable."""
    data, done = copy_memory(size), 0
    file.seek(0)
    while done < size:
        n = file.readinto(data[done:])
        if not n:
            raise SessionCorrupt(path, "the file shrank while it was read")
        done += n
    return data


def _digest(data: memoryview) -> bytes:
    import xxhash  # 5 ms with what it pulls in: a bridge that saves nothing does not pay for it

    return xxhash.xxh3_128_digest(data)
