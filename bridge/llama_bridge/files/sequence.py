"""The head of a llama.cpp sequence file: what ``llama_state_seq_save_file`` writes before the memory.

.. code-block:: text

    u32 magic "ggsq" | u32 version | u32 n_tokens | i32 tokens[n_tokens]

All numbers are little-endian here; llama.cpp uses the byte order of its machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HEAD_BYTES", "SequenceHead", "begins_as_sequence", "pack_sequence_head"]

_HEAD = struct.Struct("<III")
_MAGIC = struct.pack("<I", 0x67677371)
HEAD_BYTES = _HEAD.size
"""Without the tokens."""


@dataclass(frozen=True, slots=True)
class SequenceHead:
    """The head of a file. None of it is checked.

    Attributes:
        version: llama.cpp's version of the format.
        n_tokens: how many tokens follow.
    """

    version: int
    n_tokens: int

    @classmethod
    def read(cls, data: bytes | memoryview) -> SequenceHead:
        """Read it from at least :data:`HEAD_BYTES` bytes that begin like a sequence."""
        _, version, n_tokens = _HEAD.unpack_from(data)
        return cls(version, n_tokens)

    @property
    def n_bytes(self) -> int:
        """Where the memory begins."""
        return _HEAD.size + 4 * self.n_tokens

    def tokens(self, data: bytes | memoryview) -> tuple[int, ...]:
        """The token ledger. ``data`` has at least :attr:`n_bytes`."""
        return struct.unpack_from(f"<{self.n_tokens}i", data, _HEAD.size)


def begins_as_sequence(data: bytes | memoryview, *, swapped: bool = False) -> bool:
    """Whether the first four bytes are those of a sequence; ``swapped`` means the other byte order."""
    return bytes(data[: len(_MAGIC)]) == (_MAGIC[::-1] if swapped else _MAGIC)


def pack_sequence_head(version: int, tokens: Sequence[int]) -> bytes:
    """Everything that comes before the memory."""
    head = _HEAD.pack(int.from_bytes(_MAGIC, "little"), version, len(tokens))
    return head + struct.pack(f"<{len(tokens)}i", *tokens)
