"""The memory that a host gives the guest: how large it is, and whether threads share it.

llama.wasm imports a shared memory. A host without threads clears that one bit in the import and provides an ordinary
memory: the same code then runs on one thread.
Format: https://webassembly.github.io/threads/core/binary/modules.html, import section and limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llama_bridge.errors import OutOfMemory

from ..abi import MAX_MEMORY

__all__ = ["PAGE", "MemoryImport", "find_memory", "unshared"]

PAGE = 1 << 16
_HEADER = 8
_IMPORT_SECTION = 2
_FUNCTION, _MEMORY = 0, 2
_HAS_MAXIMUM, _SHARED = 1, 2


@dataclass(frozen=True, slots=True)
class MemoryImport:
    """The memory that a module imports.

    Attributes:
        module, name: its names in the import.
        minimum, maximum: in pages of 64 KiB.
        flags_at: offset in the module of the byte with the kind of memory.
    """

    module: str
    name: str
    minimum: int
    maximum: int
    flags_at: int

    def most(self, limit: int, model: Path) -> int:
        """The most pages of a memory of at most ``limit`` bytes.

        Raises:
            OutOfMemory: that is too small even for the module itself.
        """
        pages = min(self.maximum, limit // PAGE)
        if pages < self.minimum:
            least, most = self.minimum * PAGE / 2**20, limit / 2**20
            raise OutOfMemory(
                model, f"llama.wasm alone needs {least:.0f} MiB, but memory_limit is {most:.0f} MiB"
            )
        return pages


def unshared(code: bytes) -> bytes:
    """The same module, with an ordinary memory.

    Raises:
        ValueError: this is not a module that imports a memory.
    """
    at = find_memory(code).flags_at
    return code[:at] + bytes([code[at] & ~_SHARED]) + code[at + 1 :]


def find_memory(code: bytes) -> MemoryImport:
    """The memory that a module imports.

    Raises:
        ValueError: it imports none.
    """
    try:
        return _find(code)
    except (IndexError, UnicodeDecodeError):
        raise ValueError("not a module that imports a memory") from None


def _find(code: bytes) -> MemoryImport:
    start = _HEADER
    while True:
        size, at = _read(code, start + 1)
        if code[start] == _IMPORT_SECTION:
            break
        start = at + size
    count, at = _read(code, at)
    for _ in range(count):
        module, at = _name(code, at)
        name, at = _name(code, at)
        kind = code[at]
        if kind == _MEMORY:
            minimum, after = _read(code, at + 2)
            maximum = _read(code, after)[0] if code[at + 1] & _HAS_MAXIMUM else MAX_MEMORY // PAGE
            return MemoryImport(module, name, minimum, maximum, at + 1)
        if kind != _FUNCTION:
            break
        at = _read(code, at + 1)[1]
    raise ValueError("not a module that imports a memory")


def _name(code: bytes, at: int) -> tuple[str, int]:
    size, at = _read(code, at)
    return code[at : at + size].decode(), at + size


def _read(code: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned LEB128 number; return it and the offset after it."""
    value = shift = 0
    while True:
        byte = code[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
