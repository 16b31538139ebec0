"""A model file as lists: unlike a dict, they hold keys twice, and rows of the tensor table that lie."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.gguf_editing import SIZES, Array, Gguf

__all__ = ["ARRAY", "BOOL", "FLOAT32", "STRING", "UINT32", "Document", "Pair", "Row"]

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_ALIGNMENT = "general.alignment"


@dataclass
class Pair:
    """A key, the number of its value's type, and the value: a number, bytes, or an :class:`Array`."""

    key: bytes
    kind: int
    value: Any


@dataclass
class Row:
    """A tensor; ``offset`` is where its data is said to be, if not where it is."""

    name: bytes
    shape: list[int]
    type: int
    data: bytes = field(repr=False)
    offset: int | None = None

    def refill(self) -> None:
        """Give it as much data as it claims, if that is not much."""
        block, size = SIZES.get(self.type, (1, 4))
        n_bytes = math.prod(self.shape) // block * size
        if 0 <= n_bytes <= 1 << 22:
            self.data = (self.data * (n_bytes // max(1, len(self.data)) + 1))[:n_bytes]


@dataclass
class Document:
    """A model file in pieces.

    Attributes:
        more_pairs, more_rows: how many more than there are the header claims.
    """

    pairs: list[Pair]
    rows: list[Row]
    version: int = 3
    more_pairs: int = 0
    more_rows: int = 0

    @classmethod
    def of(cls, model: Gguf) -> Self:
        """The pieces of a model."""
        pairs = [Pair(key.encode(), kind, value) for key, (kind, value) in model.metadata.items()]
        rows = [Row(t.name.encode(), t.shape, t.type, t.data) for t in model.tensors.values()]
        return cls(pairs, rows)

    def copy(self) -> Self:
        """One that can be changed without changing this one."""
        pairs = [
            replace(pair, value=Array(pair.value.kind, list(pair.value.items)))
            if isinstance(pair.value, Array)
            else replace(pair)
            for pair in self.pairs
        ]
        rows = [replace(row, shape=list(row.shape)) for row in self.rows]
        return replace(self, pairs=pairs, rows=rows)

    def find(self, key: str) -> Pair | None:
        """The first pair with this key."""
        wanted = key.encode()
        return next((pair for pair in self.pairs if pair.key == wanted), None)

    def set(self, key: str, kind: int, value: Any) -> None:
        """Change or add a value."""
        pair = self.find(key)
        if pair is None:
            self.pairs.append(Pair(key.encode(), kind, value))
        else:
            pair.kind, pair.value = kind, value

    def array(self, key: str) -> Array | None:
        """The array with this key, to be changed."""
        pair = self.find(key)
        return pair.value if pair is not None and isinstance(pair.value, Array) else None

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        pair = self.find("general.architecture")
        return pair.value.decode() if pair is not None and isinstance(pair.value, bytes) else ""

    def whole(self) -> bytes:
        """The file."""
        head = [
            b"GGUF",
            struct.pack("<I", self.version % 2**32),
            _u64(len(self.rows) + self.more_rows),
            _u64(len(self.pairs) + self.more_pairs),
        ]
        for pair in self.pairs:
            head += [_text(pair.key), struct.pack("<I", pair.kind), _packed(pair.kind, pair.value)]
        said = self.find(_ALIGNMENT)
        alignment = said.value if said is not None and isinstance(said.value, int) else 32
        alignment = alignment if 1 <= alignment <= 4096 else 32
        body = bytearray()
        for row in self.rows:
            offset = len(body) if row.offset is None else row.offset
            head += [_text(row.name), struct.pack("<I", len(row.shape)), *map(_u64, row.shape)]
            head += [struct.pack("<I", row.type % 2**32), _u64(offset)]
            body += row.data + bytes(-len(row.data) % alignment)
        front = b"".join(head)
        return front + bytes(-len(front) % alignment) + bytes(body)


def _u64(number: int) -> bytes:
    return struct.pack("<Q", number % 2**64)


def _text(raw: bytes) -> bytes:
    return _u64(len(raw)) + raw


def _packed(kind: int, value: Any) -> bytes:
    """The value as this kind, whatever it is."""
    if kind == STRING:
        return _text(value if isinstance(value, bytes) else str(value).encode())
    if kind == ARRAY:
        items = value if isinstance(value, Array) else Array(UINT32, [value])
        head = struct.pack("<IQ", items.kind, len(items.items))
        form = _FORMS.get(items.kind)
        if form is not None:
            with suppress(
                struct.error, OverflowError, TypeError
            ):  # what does not fit goes one by one
                return head + struct.pack(f"<{len(items.items)}{form}", *items.items)
        return head + b"".join(_packed(items.kind, item) for item in items.items)
    form = _FORMS.get(kind, "Q")
    number = value if isinstance(value, int | float) else 1
    if form in "fd":
        try:
            return struct.pack("<" + form, number)
        except OverflowError:
            return struct.pack("<" + form, math.inf)
    n_bytes = struct.calcsize(form)
    whole = int(number) if math.isfinite(number) else 0
    return (whole % (1 << (8 * n_bytes))).to_bytes(n_bytes, "little")
