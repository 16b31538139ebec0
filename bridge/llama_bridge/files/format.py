"""The session file: what llama.cpp's sequence loader reads, followed by what it does not check.

.. code-block:: text

    state     the bytes of llama_state_seq_save_file: "ggsq", version, token ledger, memory;
              without a KV cache "ggsq", version 0 and no tokens, which llama.cpp refuses at once
    manifest  JSON: what the state was made with (UTF-8)
    footer    48 bytes, little-endian:
              8 magic "LLBRIDGE" | u32 format version | u32 zero | u64 state bytes | u64 manifest bytes
              | 16 XXH3-128 (seed 0, big-endian) of everything before it

llama.cpp ignores what follows the state, so the same file loads there. If the KV cache is left out, all tokens are in
the manifest as ``owed``. The digest detects damage, not forgery: without a key, no digest can. It is XXH3 because
SHA-256 took six times as long as reading the file.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from ..checks import check_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch, SessionNotFound, SessionWriteError
from ..models.file_kinds import BEGINNING, GGUF, file_kind
from .copy_memory import copy_memory
from .replacing import OPEN_SAFELY, replace_file
from .sequence import HEAD_BYTES, SequenceHead, begins_as_sequence, pack_sequence_head

__all__ = [
    "FORMAT",
    "SessionFile",
    "check_size",
    "ends_as_session",
    "read_session_file",
    "read_session_head",
    "state_bytes",
    "write_session_file",
]

T = TypeVar("T")

FORMAT = 1
_MAGIC = b"LLBRIDGE"
_FOOTER = struct.Struct("<8sIIQQ16s")
_NO_STATE = 0
_DIGEST_BYTES = 16
_NOTHING = memoryview(bytearray())
_PIECE = 1 << 20
_DAMAGED = "its digest does not match: altered or damaged since it was saved"
_MAX_MANIFEST = 16 << 20  # parsed JSON takes up to 30 times as much memory
_MAX_TOKENS = 1 << 24


@dataclass(frozen=True, slots=True)
class SessionFile:
    """What is in a session file.

    Attributes:
        path: where it is.
        manifest: what it was saved with.
        tokens: those in the KV cache, read from the state; the manifest has the others as ``owed``.
        state_version: llama.cpp's version of the sequence format.
        n_bytes: size of the file.
        state: the memory, after the requested ``state_prefix`` bytes; empty if none were requested.
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)
    tokens: list[int] = field(repr=False)
    state_version: int
    n_bytes: int
    state: memoryview = field(repr=False, default=_NOTHING)

    @property
    def n_tokens(self) -> int:
        """Length of the conversation, according to the file."""
        owed = self.manifest.get("owed")
        return len(self.tokens) + (len(cast("list[object]", owed)) if isinstance(owed, list) else 0)


def write_session_file(
    path: PathLike,
    manifest: Mapping[str, Any],
    tokens: Sequence[int],
    state: memoryview,
    state_version: int,
    *,
    follow: bool = True,
) -> int:
    """Write a session file completely or not at all; returns its size in bytes.

    ``state`` is the memory without the engine's prefix; it is empty without ``tokens``. The bytes are on the disk
    before they replace the old file. Without ``follow``, a link at that path is refused.

    Raises:
        SessionWriteError: the folder or file cannot be written, or the disk is full.
    """
    import xxhash  # 5 ms with what it pulls in: a bridge that saves nothing does not pay for it

    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > _MAX_MANIFEST:  # nobody could load it
        raise SessionWriteError(
            path, f"the conversation is too long: its manifest would take {len(text)} bytes"
        )
    head = pack_sequence_head(state_version if tokens else _NO_STATE, tokens)
    n_state = len(head) + len(state)
    tail = text + _FOOTER.pack(_MAGIC, FORMAT, 0, n_state, len(text), b"")[:-_DIGEST_BYTES]

    def fill(file: BinaryIO) -> int:
        digest = xxhash.xxh3_128()
        for part in (head, state, tail):
            for start in range(0, len(part), _PIECE):
                piece = part[start : start + _PIECE]
                digest.update(piece)  # while it is in the CPU cache
                file.write(piece)
                _begin_writing(file, len(piece))
        file.write(digest.digest())
        return file.tell()

    return replace_file(path, fill, follow=follow)


def _begin_writing(file: BinaryIO, n_last: int) -> None:
    # With this advice Linux starts to write the pages: the disk works on one piece while the next is copied, and
    # fsync has little left to wait for.
    if n_last == _PIECE and hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), file.tell() - n_last, n_last, os.POSIX_FADV_DONTNEED)


def read_session_file(
    path: PathLike, *, state_prefix: int | None = None, follow: bool = True
) -> SessionFile:
    """Read and check a session file, except the KV bytes, which only llama.cpp understands.

    With a ``state_prefix``, they are kept too, after that many free bytes.

    Raises:
        SessionNotFound: no file there.
        SessionCorrupt: not a session file, truncated or altered; without ``follow``, also a link.
        SessionMismatch: another version of the format.
    """

    def read(real: Path, file: FileIO) -> SessionFile:
        footer = _footer(path, file)
        if state_prefix is None:
            _check_digest(path, file, footer)
            return _head(path, real, footer, partial(_piece, file))
        data = _contents(path, file, footer.n_bytes)
        if _digest(data[:-_DIGEST_BYTES]) != footer.digest:
            raise SessionCorrupt(path, _DAMAGED)
        found = _head(path, real, footer, lambda start, size: bytes(data[start : start + size]))
        start = HEAD_BYTES + 4 * len(found.tokens)
        # The prefix overlaps the tokens, which are already read: the state is neither moved nor copied.
        return replace(found, state=data[start - state_prefix : footer.n_state])

    return _opened(path, follow, read)


def read_session_head(path: PathLike, *, follow: bool = True) -> SessionFile:
    """Read only tokens and manifest, a few kilobytes. The digest, which covers the whole file, is not checked.

    Raises:
        SessionNotFound, SessionCorrupt, SessionMismatch: as in :func:`read_session_file`.
    """

    def read(real: Path, file: FileIO) -> SessionFile:
        return _head(path, real, _footer(path, file), partial(_piece, file))

    return _opened(path, follow, read)


def state_bytes(path: str) -> int | None:
    """Bytes of the KV cache in a session file; None for anything else, including a link to one."""
    try:
        return _opened(path, False, lambda _, file: _footer(path, file).n_state - HEAD_BYTES)
    except (SessionNotFound, SessionCorrupt, SessionMismatch):
        return None


def _opened(path: PathLike, follow: bool, read: Callable[[Path, FileIO], T]) -> T:
    real = check_path("path", path)
    try:
        status = real.stat() if follow else real.lstat()
        if not stat.S_ISREG(status.st_mode):  # before opening, which can trigger a device
            raise SessionCorrupt(path, _no_file(status.st_mode))
        flags = os.O_RDONLY | OPEN_SAFELY
        handle = os.open(os.path.realpath(real) if follow else real, flags)
        with open(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SessionCorrupt(path, "not a regular file")
            return read(real, file)
    except FileNotFoundError as error:
        raise SessionNotFound(path, "no such file") from error
    except OSError as error:
        raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error
    except struct.error as error:
        raise SessionCorrupt(path, "the file shrank while it was read") from error


def _no_file(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link, which is not followed"
    what = "this is a directory" if stat.S_ISDIR(mode) else "not a regular file"
    return f"{what}: give the path of a saved session"


def check_size(path: PathLike, size: int) -> None:
    """Refuse a file that would fill this machine's memory, such as a sparse one.

    A state that was ever in a KV cache here leaves room for a copy.

    Raises:
        SessionCorrupt.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows refuses such files itself
        return
    if 0 < memory < 2 * size:
        raise SessionCorrupt(
            path, f"not loaded: its {size} bytes are more than half of all memory here"
        )


@dataclass(frozen=True, slots=True)
class _Footer:
    """The end of a session file, which says where its parts are."""

    n_bytes: int
    n_state: int
    n_manifest: int
    digest: bytes


def _footer(path: PathLike, file: FileIO) -> _Footer:
    size = os.fstat(file.fileno()).st_size
    if size < _FOOTER.size + HEAD_BYTES:
        raise _not_a_session(path, file, f"not a session file: {size} bytes")
    magic, version, _, n_state, n_manifest, digest = _FOOTER.unpack(
        _piece(file, size - _FOOTER.size, _FOOTER.size)
    )
    if magic != _MAGIC:
        raise _not_a_session(path, file, "not a complete session file: it has no session footer")
    if version != FORMAT:
        raise SessionMismatch(path, "format", version, FORMAT)
    if n_state + n_manifest + _FOOTER.size != size or n_manifest > _MAX_MANIFEST:
        raise SessionCorrupt(path, "its sizes contradict each other: truncated or altered")
    check_size(path, size)
    return _Footer(size, n_state, n_manifest, digest)


def _head(
    path: PathLike, real: Path, footer: _Footer, piece: Callable[[int, int], bytes]
) -> SessionFile:
    """Read manifest and tokens from pieces of the file."""
    try:
        manifest: Any = json.loads(piece(footer.n_state, footer.n_manifest))
    except (ValueError, RecursionError) as error:
        raise SessionCorrupt(path, f"its manifest cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise SessionCorrupt(path, "its manifest is not a JSON object")
    data = piece(0, HEAD_BYTES)
    head = SequenceHead.read(data)
    too_long = head.n_bytes > footer.n_state or head.n_tokens > _MAX_TOKENS
    if too_long or not begins_as_sequence(data):
        raise SessionCorrupt(path, "its KV state is not a llama.cpp sequence")
    tokens = list(head.tokens(piece(0, head.n_bytes)))
    return SessionFile(real, cast("dict[str, Any]", manifest), tokens, head.version, footer.n_bytes)


def _piece(file: FileIO, start: int, size: int) -> bytes:
    """Read some bytes of a file; fewer if it has shrunk, which ``struct`` refuses."""
    file.seek(start)
    return file.read(size)


def _not_a_session(path: PathLike, file: FileIO, why: str) -> SessionCorrupt:
    """Say what a file without a footer is, judging by its beginning."""
    file.seek(0)
    kind = file_kind(file.read(BEGINNING))
    if kind is None:
        return SessionCorrupt(path, why)
    if kind.name == "session":
        return SessionCorrupt(
            path,
            "not a complete session file: truncated, or a bare llama.cpp sequence file, which "
            "session_load(path, trust_unverified=True) accepts",
        )
    way_out = f": {kind.way_out}" if kind.name == GGUF else ""
    return SessionCorrupt(path, f"this is {kind.what}, not a session{way_out}", kind.name)


def ends_as_session(file: BinaryIO) -> bool:
    """Whether an open file has the footer of a session file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER.size))
    return file.read(len(_MAGIC)) == _MAGIC


def _contents(path: PathLike, file: FileIO, size: int) -> memoryview:
    """Read the whole file into writable memory."""
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


def _check_digest(path: PathLike, file: FileIO, footer: _Footer) -> None:
    """Check the digest without reading the whole file into memory."""
    import xxhash  # 5 ms, as above

    digest, left = xxhash.xxh3_128(), footer.n_bytes - _DIGEST_BYTES
    file.seek(0)
    while left and (piece := file.read(min(left, _PIECE))):
        digest.update(piece)
        left -= len(piece)
    if left or digest.digest() != footer.digest:
        raise SessionCorrupt(path, _DAMAGED)
