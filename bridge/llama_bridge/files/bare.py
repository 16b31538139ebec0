"""A bare llama.cpp sequence file: what ``llama_state_seq_save_file`` writes, with nothing to check it by.

.. code-block:: text

    u32 magic "ggsq" | u32 version | u32 n_tokens | i32 tokens[n_tokens] | memory

All numbers are in the byte order of the machine that wrote it.
"""

from __future__ import annotations

import struct
import sys

from ..checks import check_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..snapshot import Snapshot
from .compatibility import refuse_foreign_tokens, refuse_what_does_not_fit
from .format import check_size, ends_as_session
from .manifest import MadeWith

__all__ = ["is_bare", "read_bare"]

_HEAD = struct.Struct("<III")
_MAGIC = struct.pack("<I", 0x67677371)
_OTHER_ORDER = "big" if sys.byteorder == "little" else "little"


def is_bare(path: PathLike) -> bool:
    """Whether a file begins as a sequence of llama.cpp, of either byte order, and does not end as a session."""
    file = check_path("path", path)
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            begins = stream.read(len(_MAGIC)) in (_MAGIC, _MAGIC[::-1])
            return begins and not ends_as_session(stream)
    except OSError:
        return False  # whoever reads it in full says why it cannot be read


def read_bare(path: PathLike, made_with: MadeWith) -> tuple[Snapshot, int]:
    """The token ledger and state of a bare file, and its size in bytes; all is checked that can be.

    Raises:
        SessionMismatch: of another version or byte order, or too long for the context.
        SessionCorrupt: it contradicts itself, or names tokens that the model does not have.
    """
    file, info = check_path("path", path), made_with.info
    try:
        check_size(path, file.stat().st_size)
        data = memoryview(bytearray(file.read_bytes()))
    except OSError as error:
        raise SessionCorrupt(path, f"cannot be read: {error.strerror or error}") from error
    if len(data) < _HEAD.size:
        raise SessionCorrupt(path, f"not a llama.cpp sequence: {len(data)} bytes")
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise SessionMismatch(path, "context.byte_order", _OTHER_ORDER, sys.byteorder)
    _, version, n_tokens = _HEAD.unpack_from(data)
    name, _, expected = info.state_format.rpartition("-")
    if str(version) != expected:
        state_format = f"{name}-{version}"
        raise SessionMismatch(path, "context.state_format", state_format, info.state_format)
    start = _HEAD.size + 4 * n_tokens
    if start > len(data):
        raise SessionCorrupt(path, f"it ends within its {n_tokens} tokens: truncated or altered")
    if not n_tokens:
        raise SessionCorrupt(path, "it lists no tokens: there is nothing to continue")
    refuse_what_does_not_fit(path, n_tokens, n_tokens, info)
    tokens = struct.unpack_from(f"<{n_tokens}i", data, _HEAD.size)
    refuse_foreign_tokens(path, tokens, info)
    # The engine's prefix overlaps the tokens, which were read.
    return Snapshot(tokens, n_tokens, state=data[start - made_with.state_prefix :]), len(data)
