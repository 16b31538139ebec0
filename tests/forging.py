"""Session files that are whole by their digest and wrong in what they say."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash

_FOOTER = 48
_ROW = struct.Struct("<iQ")


def read_manifest(path: Path) -> dict[str, Any]:
    """What a session file says of itself."""
    manifest: dict[str, Any] = json.loads(_parts(path)[1])
    return manifest


def forge(
    path: Path,
    *,
    manifest: Mapping[str, Any] | None = None,
    state: Callable[[bytearray], None] | None = None,
) -> None:
    """Change a session file in place, dotted names of its manifest or its llama.cpp part, and mend the digest."""
    sequence, text = _parts(path)
    said = json.loads(text)
    for name, value in (manifest or {}).items():
        *outer, last = name.split(".")
        inner = said
        for key in outer:
            inner = inner[key]
        inner[last] = value
    if state is not None:
        state(sequence)
    text = json.dumps(said).encode()
    body = bytes(sequence) + text
    body += struct.pack("<8sIIQQ", b"LLBRIDGE", 1, 0, len(sequence), len(text))
    path.write_bytes(body + xxhash.xxh3_128_digest(body))


def _parts(path: Path) -> tuple[bytearray, bytes]:
    data = path.read_bytes()
    n_state, n_manifest = struct.unpack_from("<QQ", data, len(data) - _FOOTER + 16)
    return bytearray(data[:n_state]), data[n_state : n_state + n_manifest]


def bare(path: Path) -> bytes:
    """The llama.cpp part of a session file."""
    return bytes(_parts(path)[0])


def layers(sequence: bytearray) -> tuple[list[slice], list[slice]]:
    """Where K and V of each layer lie in the llama.cpp part, of a dense cache with flash attention."""
    (n_tokens,) = struct.unpack_from("<I", sequence, 8)
    at = 12 + 4 * n_tokens
    streams, cells = struct.unpack_from("<II", sequence, at)
    assert streams == 1
    at += 8
    for _ in range(cells):
        _, n_sequences = struct.unpack_from("<iI", sequence, at)
        at += 8 + 4 * n_sequences
    transposed, n_layers = struct.unpack_from("<II", sequence, at)
    assert not transposed
    at += 8
    found: list[slice] = []
    for _ in range(2 * n_layers):
        _, row = _ROW.unpack_from(sequence, at)
        at += _ROW.size
        found.append(slice(at, at + cells * row))
        at += cells * row
    assert at == len(sequence)
    return found[:n_layers], found[n_layers:]
