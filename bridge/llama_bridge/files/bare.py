"""A bare llama.cpp sequence file, as ``llama_state_seq_save_file`` writes it: without anything to check it against."""

from __future__ import annotations

import sys

from ..checks import check_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..snapshot import Snapshot
from .compatibility import refuse_foreign_tokens, refuse_what_does_not_fit
from .format import check_size, ends_as_session
from .manifest import MadeWith
from .sequence import HEAD_BYTES, SequenceHead, begins_as_sequence

__all__ = ["is_bare", "read_bare"]

_OTHER_ORDER = "big" if sys.byteorder == "little" else "little"


def is_bare(path: PathLike) -> bool:
    """Whether a file begins like a llama.cpp sequence, in either byte order, and does not end like a session."""
    file = check_path("path", path)
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            data = stream.read(HEAD_BYTES)
            begins = begins_as_sequence(data) or begins_as_sequence(data, swapped=True)
            return begins and not ends_as_session(stream)
    except OSError:
        return False  # reading it in full reports the reason


def read_bare(path: PathLike, made_with: MadeWith) -> tuple[Snapshot, int]:
    """Read the token ledger and state of a bare file, and its size in bytes. Checks what can be checked.

    Raises:
        SessionMismatch: another version or byte order, or too long for the context.
        SessionCorrupt: it contradicts itself or has tokens that the model lacks.
    """
    file, info = check_path("path", path), made_with.info
    try:
        check_size(path, file.stat().st_size)
        data = memoryview(bytearray(file.read_bytes()))
    except OSError as error:
        raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error
    if len(data) < HEAD_BYTES:
        raise SessionCorrupt(path, f"not a llama.cpp sequence: {len(data)} bytes")
    if not begins_as_sequence(data):
        raise SessionMismatch(path, "context.byte_order", _OTHER_ORDER, sys.byteorder)
    head = SequenceHead.read(data)
    version, n_tokens = head.version, head.n_tokens
    name, _, expected = info.state_format.rpartition("-")
    if str(version) != expected:
        state_format = f"{name}-{version}"
        raise SessionMismatch(path, "context.state_format", state_format, info.state_format)
    start = head.n_bytes
    if start > len(data):
        raise SessionCorrupt(
            path, f"it ends inside its list of {n_tokens} tokens: truncated or altered"
        )
    if not n_tokens:
        raise SessionCorrupt(path, "it has no tokens: there is nothing to continue")
    refuse_what_does_not_fit(path, n_tokens, n_tokens, info)
    tokens = head.tokens(data)
    refuse_foreign_tokens(path, tokens, info)
    # The engine's prefix overlaps the tokens, which are already read.
    return Snapshot(tokens, n_tokens, state=data[start - made_with.state_prefix :]), len(data)
