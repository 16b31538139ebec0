"""Which relaxed SIMD instructions a WebAssembly module has: a reader of its code section that knows every operand.

Opcodes: https://webassembly.github.io/spec/core/binary/instructions.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

__all__ = ["RELAXED", "relaxed_instructions"]

RELAXED = {
    0x100: "i8x16.relaxed_swizzle",
    0x101: "i32x4.relaxed_trunc_f32x4_s",
    0x102: "i32x4.relaxed_trunc_f32x4_u",
    0x103: "i32x4.relaxed_trunc_f64x2_s_zero",
    0x104: "i32x4.relaxed_trunc_f64x2_u_zero",
    0x105: "f32x4.relaxed_madd",
    0x106: "f32x4.relaxed_nmadd",
    0x107: "f64x2.relaxed_madd",
    0x108: "f64x2.relaxed_nmadd",
    0x109: "i8x16.relaxed_laneselect",
    0x10A: "i16x8.relaxed_laneselect",
    0x10B: "i32x4.relaxed_laneselect",
    0x10C: "i64x2.relaxed_laneselect",
    0x10D: "f32x4.relaxed_min",
    0x10E: "f32x4.relaxed_max",
    0x10F: "f64x2.relaxed_min",
    0x110: "f64x2.relaxed_max",
    0x111: "i16x8.relaxed_q15mulr_s",
    0x112: "i16x8.relaxed_dot_i8x16_i7x16_s",
    0x113: "i32x4.relaxed_dot_i8x16_i7x16_add_s",
}
_CODE_SECTION, _HEADER = 10, 8
_NO_OPERAND = frozenset((0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)))
_ONE_NUMBER = frozenset(
    (
        0x02,
        0x03,
        0x04,
        0x08,
        0x0C,
        0x0D,
        0x10,
        0x12,
        0x14,
        0x15,
        *range(0x20, 0x27),
        *range(0x3F, 0x43),
        0xD0,
        0xD2,
    )
)
_TWO_NUMBERS = frozenset((0x11, 0x13))


def relaxed_instructions(code: bytes) -> Counter[str]:
    """The name of each one that is there, and how often."""
    reader = _Reader(code)
    reader.at = _HEADER
    while reader.at < len(code):
        section = reader.byte()
        size = reader.number()
        if section != _CODE_SECTION:
            reader.at += size
            continue
        for _ in range(reader.number()):
            size = reader.number()
            reader.function(reader.at + size)
    return reader.found


class _Reader:
    def __init__(self, code: bytes) -> None:
        self.code = code
        self.at = 0
        self.found: Counter[str] = Counter()
        self._prefixed: dict[int, Callable[[int], None]] = {
            0xFC: self._more,
            0xFD: self._vector,
            0xFE: self._atomic,
        }

    def byte(self) -> int:
        self.at += 1
        return self.code[self.at - 1]

    def number(self) -> int:
        """LEB128; of a signed one only the place where it ends counts."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def numbers(self, count: int) -> None:
        for _ in range(count):
            self.number()

    def address(self) -> None:
        """Alignment, the memory if it says so, offset."""
        self.numbers(2 if self.number() & 0x40 else 1)

    def function(self, end: int) -> None:
        for _ in range(self.number()):  # kinds of locals
            self.number()
            if self.byte() in (0x63, 0x64):  # a reference to a type
                self.number()
        while self.at < end:
            self._instruction()
        assert self.at == end

    def _instruction(self) -> None:
        code = self.byte()
        if code in _NO_OPERAND:
            return
        if code in _ONE_NUMBER:
            self.number()
        elif code in _TWO_NUMBERS:
            self.numbers(2)
        elif 0x28 <= code <= 0x3E:
            self.address()
        elif code in self._prefixed:
            self._prefixed[code](self.number())
        elif code == 0x0E:  # br_table
            self.numbers(self.number() + 1)
        elif code == 0x1C:  # select with types
            self.numbers(self.number())
        elif code == 0x1F:  # try_table
            self.number()
            for _ in range(self.number()):
                self.numbers(2 if self.byte() < 2 else 1)
        elif code in (0x43, 0x44):
            self.at += 4 if code == 0x43 else 8
        else:
            raise AssertionError(f"unknown instruction {code:#x} at {self.at:#x}")

    def _more(self, code: int) -> None:
        self.numbers(0 if code < 8 else 2 if code in (8, 10, 12, 14) else 1)

    def _vector(self, code: int) -> None:
        if code in RELAXED:
            self.found[RELAXED[code]] += 1
        elif code <= 0x0B or code in (0x5C, 0x5D):
            self.address()
        elif code in (0x0C, 0x0D):
            self.at += 16
        elif 0x15 <= code <= 0x22:
            self.at += 1
        elif 0x54 <= code <= 0x5B:
            self.address()
            self.at += 1

    def _atomic(self, code: int) -> None:
        if code == 3:
            self.at += 1
        else:
            self.address()
