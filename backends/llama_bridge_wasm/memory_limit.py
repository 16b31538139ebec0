"""A limit of the guest's memory, also for hosts that have none of their own.

The browser's engine lets a memory grow to the maximum that the module states, so a smaller one is written there.
Format: https://webassembly.github.io/spec/core/binary/modules.html, memory section.
"""

from __future__ import annotations

from pathlib import Path

from llama_bridge.errors import OutOfMemory

__all__ = ["MAX_MEMORY", "check_room", "limited", "memory_of"]

MAX_MEMORY = 1 << 32
"""More than this no 32-bit module has."""

_PAGE = 1 << 16
_MEMORY_SECTION, _HAS_MAXIMUM = 5, 1
_HEADER = 8


def check_room(needed: int, model: Path, limit: int) -> None:
    """Refuse a limit that leaves no room even for the module itself.

    Raises:
        OutOfMemory: it does not.
    """
    if needed > limit:
        least, most = needed / 2**20, limit / 2**20
        raise OutOfMemory(
            model, f"llama.wasm alone needs {least:.0f} MiB, but memory_limit is {most:.0f} MiB"
        )


def memory_of(code: bytes) -> tuple[int, int]:
    """Bytes of memory that a module begins with, and those it may grow to.

    Raises:
        ValueError: this is no module with one memory of its own.
    """
    _, _, _, minimum, maximum = _find(code)
    return minimum * _PAGE, maximum * _PAGE


def limited(code: bytes, limit: int) -> bytes:
    """The module as it is, but for a memory of at most ``limit`` bytes; never more than it had.

    Raises:
        ValueError: this is no module with one memory of its own.
    """
    start, end, flags, minimum, maximum = _find(code)
    memory = bytes([1, flags | _HAS_MAXIMUM]) + _unsigned(minimum)
    memory += _unsigned(min(maximum, limit // _PAGE))
    section = bytes([_MEMORY_SECTION]) + _unsigned(len(memory)) + memory
    return code[:start] + section + code[end:]


def _find(code: bytes) -> tuple[int, int, int, int, int]:
    """Where the memory section starts and ends; flags, minimum and maximum in pages."""
    try:
        start = _HEADER
        while True:
            size, at = _read(code, start + 1)
            if code[start] == _MEMORY_SECTION:
                break
            start = at + size
        end = at + size
        count, at = _read(code, at)
        flags = code[at]
        minimum, at = _read(code, at + 1)
        maximum = _read(code, at)[0] if flags & _HAS_MAXIMUM else 1 << 16
    except IndexError:
        raise ValueError("no module with a memory of its own") from None
    if count != 1:
        raise ValueError(f"a module with {count} memories")
    return start, end, flags, minimum, maximum


def _read(code: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where the next thing is."""
    value = shift = 0
    while True:
        byte = code[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
