"""Counts the instructions of inner loops in compiled code for ARM64, where nothing can be timed.

An instruction has four bytes. A loop is what lies between a branch backwards and its target; those without another loop
inside are looked at, and told apart by how often they multiply bytes.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Count", "Loop", "count_instructions", "inner_loops"]

_MOST = 26
"""Instructions for 128 multiply-adds of Q4_0, with sums of fours."""
_UNIT = 128
_TILES = {"prefill": 128, "decode": 256}
"""Multiply-adds of one turn: of prefill four values of eight rows and of four tokens, of decode a block of 32 values of eight rows."""

_SDOT = (0xFFE0FC00, 0x4E809400)  # 16 products of bytes, added up in fours
_SMULL = (0xBF20FC00, 0x0E20C000)  # 8 products, of bytes where the size says so
_SIZE = 0x00C00000
_TEXT = b".text"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop without another one inside.

    Attributes:
        instructions: of one turn.
        dots: those that multiply 16 bytes and add up fours.
        products: those that multiply 8 bytes.
    """

    instructions: int
    dots: int
    products: int

    @property
    def multiply_adds(self) -> int:
        """Of bytes, in one turn."""
        return 16 * self.dots + 8 * self.products


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions of a loop for 128 multiply-adds: of prefill the one that most formats share, of decode the shortest, which is Q4_0's."""

    name: str
    pairs: float
    fours: float

    @property
    def too_many(self) -> bool:
        """Whether a sum of four products is not the one instruction that it should be."""
        return self.fours > _MOST

    def __str__(self) -> str:
        return f"{self.name}: {self.fours:g} instructions for {_UNIT} multiply-adds in fours (at most {_MOST}), {self.pairs:g} in pairs"


def count_instructions(cache: Path) -> list[Count]:
    """Count in the newest module of an ARM64 machine's cache that has such loops, for prefill and decode.

    Raises:
        ValueError: there is none.
    """
    files = sorted(cache.rglob("*.cwasm"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        loops = inner_loops(path)
        counts = [_count(name, loops) for name in _TILES]
        found = [count for count in counts if count is not None]
        if len(found) == len(_TILES):
            return found
    raise ValueError(f"no module in {cache} has loops of prefill and decode in both forms")


def _count(name: str, loops: Sequence[Loop]) -> Count | None:
    size = _TILES[name]
    tiles = [loop for loop in loops if loop.multiply_adds == size]
    pairs = [loop.instructions for loop in tiles if not loop.dots]
    fours = [loop.instructions for loop in tiles if loop.dots]
    if not (pairs and fours):
        return None
    return Count(name, _usual(pairs) * _UNIT / size, _usual(fours) * _UNIT / size)


def _usual(instructions: Sequence[int]) -> int:
    """The most frequent number; of equally frequent ones the smallest."""
    often = Counter(instructions)
    return min(often, key=lambda number: (-often[number], number))


def inner_loops(path: Path) -> list[Loop]:
    """Those of a compiled module that multiply bytes.

    Args:
        path: an ELF file, as wasmtime writes it.

    Raises:
        ValueError: it is none.
    """
    code = _text(path.read_bytes())
    words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) // 4 * 4])
    loops = sorted(
        {(to, at) for at, to in _branches_back(words)}, key=lambda loop: loop[1] - loop[0]
    )
    found: list[Loop] = []
    taken: list[tuple[int, int]] = []
    for first, last in loops:
        if any(first <= start and end <= last for start, end in taken):
            continue
        taken.append((first, last))
        body = words[first : last + 1]
        dots = sum(word & _SDOT[0] == _SDOT[1] for word in body)
        products = sum(word & _SMULL[0] == _SMULL[1] and word & _SIZE == 0 for word in body)
        if dots or products:
            found.append(Loop(len(body), dots, products))
    return found


def _branches_back(words: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where a branch is and where it leads, by number of instruction."""
    for at, word in enumerate(words):
        if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # b.cond, cbz, cbnz
            offset = _signed(word >> 5, 19)
        elif word & 0x7E000000 == 0x36000000:  # tbz, tbnz
            offset = _signed(word >> 5, 14)
        elif word & 0xFC000000 == 0x14000000:  # b
            offset = _signed(word, 26)
        else:
            continue
        if -512 < offset < 0 and at + offset >= 0:
            yield at, at + offset


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _text(data: bytes) -> bytes:
    """The section with machine code of a 64-bit little-endian ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("this is no ELF file of 64 bits")
    sections, size, count, names = struct.unpack_from("<Q10xHHH", data, 0x28)
    headers = [struct.unpack_from("<II4Q", data, sections + size * i) for i in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, length in headers:
        start = strings + name
        if data[start : data.index(0, start)] == _TEXT:
            return data[offset : offset + length]
    raise ValueError("this ELF file has no code")
