"""GGUF headers written by hand, and files that are larger than anybody's disk."""

from __future__ import annotations

import io
import struct
from typing import Any

__all__ = [
    "U8",
    "U32",
    "STRING",
    "ARRAY",
    "Sparse",
    "array",
    "gguf",
    "string",
    "strings",
    "text",
    "u32",
]

U8, U32, STRING, ARRAY = 0, 4, 8, 9


def string(value: str | bytes) -> bytes:
    """As the format writes it: length, bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def text(value: str | bytes) -> bytes:
    """A value that is a string."""
    return struct.pack("<I", STRING) + string(value)


def u32(value: int) -> bytes:
    """A value that is a number."""
    return struct.pack("<II", U32, value)


def array(kind: int, count: int, body: bytes = b"") -> bytes:
    """A value that is an array; ``count`` may be a lie."""
    return struct.pack("<IIQ", ARRAY, kind, count) + body


def strings(items: list[bytes]) -> bytes:
    """A value that is an array of strings."""
    return array(STRING, len(items), b"".join(map(string, items)))


def gguf(*pairs: tuple[str, bytes], n_values: int | None = None, n_tensors: int = 0) -> bytes:
    """A header with an architecture and these values."""
    pairs = (("general.architecture", text("llama")), *pairs)
    count = len(pairs) if n_values is None else n_values
    return struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, count) + b"".join(
        string(key) + value for key, value in pairs
    )


class Sparse(io.RawIOBase):
    """A file that begins with some bytes and goes on with zeros; it counts what is read of it."""

    def __init__(self, beginning: bytes, size: int) -> None:
        self._beginning = beginning
        self._size = size
        self._at = 0
        self.n_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        n = max(0, min(len(buffer), self._size - self._at))
        part = self._beginning[self._at : self._at + n]
        buffer[:n] = part + bytes(n - len(part))
        self._at += n
        self.n_read += n
        return n
