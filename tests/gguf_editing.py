"""A GGUF file as data that tests change: metadata, tensor table, weights."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_bridge.models.source import open_model

__all__ = ["SIZES", "Array", "EditedTensor", "Gguf", "edited_model"]

# A copy of the numbers in gguf.py, on purpose: a mistake there must not be repeated by the test that should find it.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
SIZES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 18: (256, 98), 20: (32, 18), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    27: (1, 8), 28: (1, 8), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""ggml's type: elements and bytes of a block."""


@dataclass
class Array:
    """An array of a GGUF's metadata."""

    kind: int
    items: list[Any]


@dataclass
class EditedTensor:
    """A row of the tensor table, and its data."""

    name: str
    shape: list[int]
    type: int
    data: bytes = field(repr=False)

    def retype(self, type_: int) -> None:
        """Another type, with data of the size that it wants."""
        block, size = SIZES[type_]
        n_bytes = math.prod(self.shape) // block * size
        self.type = type_
        self.data = (self.data * (n_bytes // max(1, len(self.data)) + 1))[:n_bytes]


class Gguf:
    """What is in a model file.

    Attributes:
        metadata: key to type and value.
        tensors: by name.
    """

    def __init__(self, path: Path) -> None:
        self._data, self._at = path.read_bytes(), 24
        n_tensors, n_pairs = struct.unpack_from("<QQ", self._data, 8)
        self.metadata: dict[str, tuple[int, Any]] = {}
        for _ in range(n_pairs):
            key = self._string().decode()
            kind = self._take("I")
            self.metadata[key] = kind, self._value(kind)
        rows = [self._row() for _ in range(n_tensors)]
        start = -(-self._at // self._alignment()) * self._alignment()
        self.tensors: dict[str, EditedTensor] = {}
        for name, shape, type_, offset in rows:
            block, size = SIZES[type_]
            n_bytes = math.prod(shape) // block * size
            data = self._data[start + offset : start + offset + n_bytes]
            self.tensors[name] = EditedTensor(name, shape, type_, data)

    def set(self, key: str, value: Any, kind: int | None = None) -> None:
        """Change or add a value; of the type that it has or is given, else a uint32."""
        known = self.metadata.get(key)
        self.metadata[key] = (kind if kind is not None else known[0] if known else 4), value

    def rename(self, architecture: str) -> None:
        """Make it a model of another architecture."""
        before = self.metadata["general.architecture"][1].decode()
        self.metadata = {
            key.replace(f"{before}.", f"{architecture}.", 1)
            if key.startswith(f"{before}.")
            else key: value
            for key, value in self.metadata.items()
        }
        self.set("general.architecture", architecture.encode())

    def words(self) -> list[bytes]:
        """The texts of its tokens, to be changed."""
        items: list[bytes] = self.metadata["tokenizer.ggml.tokens"][1].items
        return items

    def write(self, path: Path) -> Path:
        """To a file."""
        head = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata))]
        for key, (kind, value) in self.metadata.items():
            head += [_text(key.encode()), struct.pack("<I", kind), _packed(kind, value)]
        body, alignment = bytearray(), self._alignment()
        for tensor in self.tensors.values():
            head.append(_text(tensor.name.encode()) + struct.pack("<I", len(tensor.shape)))
            head.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
            head.append(struct.pack("<IQ", tensor.type, len(body)))
            body += tensor.data + bytes(-len(tensor.data) % alignment)
        front = b"".join(head)
        path.write_bytes(front + bytes(-len(front) % alignment) + body)
        return path

    def _alignment(self) -> int:
        return int(self.metadata.get("general.alignment", (4, 32))[1])

    def _take(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self._data, self._at)
        self._at += struct.calcsize("<" + form)
        return value

    def _string(self) -> bytes:
        size = self._take("Q")
        self._at += size
        return self._data[self._at - size : self._at]

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._take(_SCALARS[kind])
        inner, count = self._take("I"), self._take("Q")
        if inner not in _SCALARS:
            return Array(inner, [self._value(inner) for _ in range(count)])
        form = f"<{count}{_SCALARS[inner]}"
        items = list(struct.unpack_from(form, self._data, self._at))
        self._at += struct.calcsize(form)
        return Array(inner, items)

    def _row(self) -> tuple[str, list[int], int, int]:
        name = self._string().decode()
        shape = [self._take("Q") for _ in range(self._take("I"))]
        return name, shape, self._take("I"), self._take("Q")


def _text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _packed(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value if isinstance(value, bytes) else value.encode())
    if kind != _ARRAY:
        return struct.pack("<" + _SCALARS[kind], value)
    head = struct.pack("<IQ", value.kind, len(value.items))
    return head + b"".join(_packed(value.kind, item) for item in value.items)


def edited_model(
    path: Path,
    metadata: dict[str, Any] | None = None,
    edit: Callable[[Gguf], None] | None = None,
    seed: Path | None = None,
) -> Path:
    """A copy of the demo model, or of another, with some values of its metadata changed, and more."""
    model = Gguf(seed or open_model("demo").path)
    for key, value in (metadata or {}).items():
        model.set(key, value, _STRING if isinstance(value, str) else None)
    if edit is not None:
        edit(model)
    return model.write(path)
