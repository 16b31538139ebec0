"""A session file taken apart, to be put together with something wrong in it."""

from __future__ import annotations

import enum
import json
import struct
from dataclasses import dataclass, replace
from typing import Any

import xxhash

__all__ = ["Expected", "Mutant", "Parts", "cell_width", "is_recurrent", "structure"]

_FOOTER = struct.Struct("<8sIIQQ")
_DIGEST = 16
_HEAD = struct.Struct("<III")


class Expected(enum.IntEnum):
    """What may happen at most."""

    REFUSED = 0
    """Nothing else: its bytes are altered and its digest is not."""
    FAITHFUL = 1
    """If it is accepted, its KV cache is that of its token ledger."""
    FORGED = 2
    """Tokens or KV data are others, and the digest is mended: only a key could tell."""


@dataclass(frozen=True)
class Parts:
    """A session file taken apart. ``manifest`` is JSON as text, or bytes that may be no JSON."""

    magic: int
    version: int
    n_tokens: int
    tokens: tuple[int, ...]
    memory: bytes
    manifest: bytes
    footer_magic: bytes = b"LLBRIDGE"
    format: int = 1
    zero: int = 0
    more_state: int = 0
    more_manifest: int = 0

    @classmethod
    def of(cls, data: bytes) -> Parts:
        """The parts of a valid file."""
        _, _, _, n_state, n_manifest = _FOOTER.unpack_from(data, len(data) - _FOOTER.size - _DIGEST)
        magic, version, n_tokens = _HEAD.unpack_from(data)
        start = _HEAD.size + 4 * n_tokens
        tokens = struct.unpack_from(f"<{n_tokens}i", data, _HEAD.size)
        manifest = data[n_state : n_state + n_manifest]
        return cls(magic, version, n_tokens, tokens, data[start:n_state], manifest)

    def whole(self) -> bytes:
        """The file, its sizes and digest mended, but for what is wrong on purpose."""
        state = _HEAD.pack(self.magic, self.version, self.n_tokens)
        state += struct.pack(f"<{len(self.tokens)}i", *self.tokens) + self.memory
        n_state = (len(state) + self.more_state) % 2**64
        n_manifest = (len(self.manifest) + self.more_manifest) % 2**64
        footer = _FOOTER.pack(self.footer_magic, self.format, self.zero, n_state, n_manifest)
        data = state + self.manifest + footer
        return data + xxhash.xxh3_128_digest(data)

    @property
    def json(self) -> dict[str, Any]:
        """The manifest of a valid file."""
        manifest: dict[str, Any] = json.loads(self.manifest)
        return manifest

    def with_json(self, value: object) -> Parts:
        """The same with another manifest."""
        # In ASCII, so that lone surrogates can be written: a reader gets them back.
        return replace(self, manifest=json.dumps(value, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Mutant:
    """A hostile file.

    Attributes:
        kind: of the model that it is loaded into.
        data: the file.
        steps: what was done to it.
        expected: what may happen.
    """

    kind: str
    data: bytes
    steps: str
    expected: Expected


# the structure of a memory, read by other code than the engine's own check, which is what is tested


def cell_width(memory: bytes) -> int:
    """12 bytes; 24 with M-RoPE, where each position stands three times in its cell."""
    first, *_, after_12 = struct.unpack_from("<iIii", memory, 8)
    return 24 if first == after_12 else 12


def is_recurrent(memory: bytes, at: int) -> bool:
    """Whether a running state begins there: its one cell names no sequences, and it is not transposed."""
    return struct.unpack_from("<IiII", memory, at)[2:] == (0, 0)


def structure(memory: bytes) -> list[int]:
    """Where the numbers of the structure stand."""
    found: list[int] = []
    at = 0
    while at + 8 <= len(memory):
        if is_recurrent(memory, at):
            found += range(at, at + 20, 4)
            at += 20
            while at < len(memory):
                at = _row(memory, at, 1, found)
            break
        second = struct.unpack_from("<I", memory, at + 4)[0]
        width = cell_width(memory[at:])
        if width * second > len(memory):
            raise ValueError("an earlier step changed the number of cells")
        found += range(at, at + 8 + width * second + 8, 4)
        at += 8 + width * second
        n_layers = struct.unpack_from("<I", memory, at + 4)[0]
        at += 8
        for _ in range(2 * n_layers):
            at = _row(memory, at, second, found)
    return found


def _row(memory: bytes, at: int, n_cells: int, found: list[int]) -> int:
    found += range(at, at + 12, 4)
    n_bytes = struct.unpack_from("<Q", memory, at + 4)[0]
    if n_bytes * n_cells > len(memory):
        raise ValueError("an earlier step changed the size of a row")
    return int(at + 12 + n_bytes * n_cells)
