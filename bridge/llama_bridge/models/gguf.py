"""Reads the header of a GGUF file, and refuses a broken one before an engine sees it.

Only what the bridge needs: metadata, tensor table, where the data lies, and digests that tell two
models apart by content. Format: ``docs/gguf.md`` of ggml, versions 2 and 3, little-endian. Every count and
length is checked against the size of the file before it is believed.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from ..errors import InvalidModel
from .file_kinds import BEGINNING, file_kind

__all__ = ["ArrayRef", "GgufHeader", "TensorInfo", "Value", "read_gguf"]

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
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
_SMALL_ARRAY = 64
_MAX_NAME = 1 << 16
_READ = 1 << 20

# ggml type id: (name, elements per block, bytes per block); from ggml.c's type table.
_TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """A long array left in the file: its element type, count, and byte range."""

    element_type: int
    count: int
    start: int
    end: int


Value = int | float | bool | str | list["Value"] | ArrayRef


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One row of the tensor table; ``offset`` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int | None

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Everything before the tensor data.

    Attributes:
        version: of the format.
        metadata: key to value; arrays of more than 64 elements, or of strings, are :class:`ArrayRef`.
        tensors: the tensor table.
        data_offset: where tensor data begins in the file.
        file_size: bytes.
        metadata_sha256, vocabulary_sha256, tensors_sha256: of the raw bytes of the metadata, of its
            ``tokenizer.`` part without the chat template, and of the tensor table.
    """

    version: int
    metadata: dict[str, Value] = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    data_offset: int
    file_size: int
    metadata_sha256: str
    vocabulary_sha256: str
    tensors_sha256: str

    def text(self, key: str, default: str = "") -> str:
        """A string from the metadata, or the default."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else default

    def number(self, key: str, default: int = 0) -> int:
        """A whole number from the metadata, or the default."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) else default

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return self.text("general.architecture")

    @property
    def n_parameters(self) -> int:
        """Elements of all the tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)


class _Reader:
    """Reads forward through a file, keeping what was read; knows the file's name for its errors."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.buffer = bytearray()
        self.pos = 0

    def fail(self, reason: str) -> InvalidModel:
        return InvalidModel(self.name, reason)

    def ensure(self, end: int) -> None:
        """Have the bytes up to ``end`` in the buffer."""
        if end > self.size:
            raise self.fail(
                f"truncated GGUF: its header needs at least {end:,} bytes, the file has {self.size:,}"
            )
        while len(self.buffer) < end:
            chunk = self.file.read(max(_READ, end - len(self.buffer)))
            if not chunk:
                raise self.fail("the file shrank while it was read")
            self.buffer += chunk

    def unpack(self, fmt: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + fmt)
        self.ensure(self.pos + size)
        values: tuple[int, ...] = struct.unpack_from("<" + fmt, self.buffer, self.pos)
        self.pos += size
        return values

    def string(self, limit: int | None = None) -> str:
        (length,) = self.unpack("Q")
        if limit is not None and length > limit:
            raise self.fail(f"a name of {length:,} bytes: damaged, or not written by a GGUF tool")
        self.ensure(self.pos + length)
        raw = bytes(self.buffer[self.pos : self.pos + length])
        self.pos += length
        return raw.decode("utf-8", "replace")

    def skip_strings(self, count: int) -> None:
        """Pass over ``count`` strings; vocabularies hold hundreds of thousands, so it is a bare loop."""
        unpack_from, pos = struct.Struct("<Q").unpack_from, self.pos
        have = len(self.buffer)
        for _ in range(count):
            if pos + 8 > have:
                self.ensure(pos + 8)
                have = len(self.buffer)
            pos += 8 + unpack_from(self.buffer, pos)[0]
        self.ensure(pos)
        self.pos = pos

    def value(self, kind: int, depth: int = 0) -> Value:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind != _ARRAY:
            raise self.fail(f"unknown GGUF metadata type {kind}: damaged, or a newer format")
        if depth > 3:
            raise self.fail("metadata arrays nested too deeply")
        element, count = self.unpack("IQ")
        start = self.pos
        self.ensure(start)
        if count > self.size - start:
            raise self.fail(f"truncated GGUF: an array of {count:,} elements does not fit the file")
        if element == _STRING:
            self.skip_strings(count)
            return ArrayRef(element, count, start, self.pos)
        if element in _SCALARS:
            if count > _SMALL_ARRAY:
                self.pos += count * struct.calcsize("<" + _SCALARS[element])
                self.ensure(self.pos)
                return ArrayRef(element, count, start, self.pos)
            return [self.unpack(_SCALARS[element])[0] for _ in range(count)]
        return [self.value(element, depth + 1) for _ in range(count)]


def _tensor(reader: _Reader) -> TensorInfo:
    name = reader.string(_MAX_NAME)
    (n_dims,) = reader.unpack("I")
    if not 1 <= n_dims <= 8:
        raise reader.fail(f"tensor {name!r} has {n_dims} dimensions")
    shape = reader.unpack("Q" * n_dims)
    type_id, offset = reader.unpack("IQ")
    type_name, block, block_bytes = _TENSOR_TYPES.get(type_id, (f"type {type_id}", 0, 0))
    n_bytes = None
    if block:
        if shape[0] % block:
            raise reader.fail(
                f"tensor {name!r}: a row of {shape[0]} does not fit {type_name} blocks"
            )
        n_bytes = math.prod(shape) // block * block_bytes
    return TensorInfo(name, shape, type_name, offset, n_bytes)


def _not_gguf(name: str, beginning: bytes) -> InvalidModel:
    kind = file_kind(beginning)
    if kind is None:
        seen = beginning[: len(_MAGIC)]
        return InvalidModel(
            name, f"not a GGUF file: it begins with {seen!r}, not {_MAGIC!r}; give the path of one"
        )
    return InvalidModel(name, f"this is {kind.what}, not a GGUF file: {kind.way_out}", kind.name)


def _check_data(reader: _Reader, tensors: list[TensorInfo], data_offset: int) -> None:
    end = max((data_offset + t.offset + (t.n_bytes or 0) for t in tensors), default=0)
    if end > reader.size:
        raise reader.fail(
            f"truncated GGUF: its tensors end at byte {end:,}, the file has {reader.size:,}; "
            "download or copy it again"
        )


def read_gguf(file: BinaryIO, name: str) -> GgufHeader:
    """Read and check the header of an open, seekable file; ``name`` is for error messages.

    Raises:
        InvalidModel: not a GGUF, a format version not known here, truncated, or inconsistent.
    """
    import hashlib  # 5 ms with OpenSSL: not before there is a model

    reader = _Reader(file, name)
    if reader.size == 0:
        raise reader.fail("the file is empty: download or copy it again")
    beginning = file.read(BEGINNING)
    file.seek(0)
    if not beginning.startswith(_MAGIC):
        raise _not_gguf(name, beginning)
    reader.pos = 4
    (version,) = reader.unpack("I")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "big"), "little") in (2, 3)
        why = "written for big-endian machines" if swapped else "only versions 2 and 3 are known"
        raise reader.fail(f"GGUF version {version}: {why}")
    n_tensors, n_values = reader.unpack("QQ")
    if n_tensors * 24 + n_values * 12 > reader.size:
        raise reader.fail(
            f"truncated GGUF: {n_tensors:,} tensors and {n_values:,} values do not fit"
        )

    metadata: dict[str, Value] = {}
    vocabulary = hashlib.sha256()
    start = reader.pos
    for _ in range(n_values):
        before = reader.pos
        key = reader.string(_MAX_NAME)
        (kind,) = reader.unpack("I")
        metadata[key] = reader.value(kind)
        if key.startswith("tokenizer.") and not key.startswith("tokenizer.chat_template"):
            vocabulary.update(memoryview(reader.buffer)[before : reader.pos])
    metadata_end = reader.pos
    tensors = [_tensor(reader) for _ in range(n_tensors)]
    table_end = reader.pos

    if not isinstance(metadata.get("general.architecture"), str):
        raise reader.fail("the metadata names no general.architecture")
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment is {alignment!r}, not a power of two")
    data_offset = -(-table_end // alignment) * alignment
    _check_data(reader, tensors, data_offset)
    view = memoryview(reader.buffer)
    return GgufHeader(
        version=version,
        metadata=metadata,
        tensors=tuple(tensors),
        data_offset=data_offset,
        file_size=reader.size,
        metadata_sha256=hashlib.sha256(view[start:metadata_end]).hexdigest(),
        vocabulary_sha256=vocabulary.hexdigest(),
        tensors_sha256=hashlib.sha256(view[metadata_end:table_end]).hexdigest(),
    )
