"""Reads the header of a GGUF file and refuses a broken one before an engine sees it.

It reads only what the bridge needs: small metadata, the tensor table, and where everything else is. Format:
``docs/gguf.md`` of ggml, versions 2 and 3, little-endian.

The file may be hostile. So every count and length is checked before it is used, against the file size and against
limits far above those of real models. Long values such as a vocabulary are skipped and stay in the file. However large
a header claims to be, reading it takes a few MB and, at worst, seconds.
"""

from __future__ import annotations

import io
import math
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from ..checks import shown
from ..errors import InvalidModel
from .ggml_types import GGML_TYPES

__all__ = ["NUMBERS", "ArrayRef", "GgufHeader", "Span", "TensorInfo", "Value", "read_gguf"]

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
NUMBERS = {
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
"""How the format writes numbers, in the letters of :mod:`struct`, by the number of their type."""
_SCALARS = {number: struct.Struct("<" + code) for number, code in NUMBERS.items()}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_ARRAY_HEAD = struct.Struct("<IQ")
_COUNTS = struct.Struct("<QQ")
_SHAPES = {n: struct.Struct(f"<{n}Q") for n in range(1, 9)}
_SMALL_ARRAY = 64
_READ = 1 << 20

# Real headers have about 50 values, 2,000 tensors, 1,000,000 strings in arrays, 15 MB, and templates of 40 kB.
_MAX_HEADER = 256 << 20
_MAX_VALUES = 1 << 14
_MAX_TENSORS = 1 << 16
_MAX_STRINGS = 1 << 22
_MAX_NAME = 1 << 10
_MAX_TEXT = 1 << 20
_WINDOW = 1 << 14
"""Strings in arrays are tokens: in real models none is longer than about 500 bytes."""
_MAX_KEPT = 16 << 20
"""Bytes of all names, texts and small arrays. As Python objects they take up to eight times as much."""
_WHOLE_TOKENIZER = "tokenizer.huggingface.json"
"""The format's own key for a tokenizer.json of tens of MB; no engine here reads it."""

Span = tuple[int, int]
"""Start and end of something in the file."""


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """A long array or an array of strings, left in the file: its element type, count and byte range."""

    element_type: int
    count: int
    start: int
    end: int


Value = int | float | bool | str | list[int | float | bool] | ArrayRef


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
        version: version of the format.
        metadata: values by key; arrays of strings, or of more than 64 elements, are :class:`ArrayRef`.
        tensors: the tensor table.
        data_offset: where the tensor data begins in the file.
        file_size: size in bytes.
        metadata_span, vocabulary_spans, tensors_span: where the file has the metadata, its ``tokenizer.`` keys
            without the chat template, and the tensor table.
        kinds: the format's number of each value's type, by key.
    """

    version: int
    metadata: dict[str, Value] = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    data_offset: int
    file_size: int
    metadata_span: Span
    vocabulary_spans: tuple[Span, ...] = field(repr=False)
    tensors_span: Span
    kinds: dict[str, int] = field(repr=False, default_factory=dict[str, int])

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
        """Elements of all tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary; 0 without one."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, ArrayRef) else 0

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of weights per tensor type, largest first; empty if there are no weights."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.type_name] = found.get(tensor.type_name, 0) + (tensor.n_bytes or 0)
        return dict(sorted(found.items(), key=lambda item: -item[1]))


class _Reader:
    """Reads a file forward, a piece at a time, and knows its name for error messages.

    Attributes:
        doing: what is being read, for error messages: a key or a part of the header.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name
        self.size = file.seek(0, io.SEEK_END)
        self.doing = "its beginning"
        self._strings = 0
        self._kept = 0
        self._piece, self._start, self._at = b"", 0, 0
        file.seek(0)

    @property
    def pos(self) -> int:
        """Position in the file."""
        return self._start + self._at

    def fail(self, reason: str) -> InvalidModel:
        return InvalidModel(self.name, reason)

    def _check(self, end: int) -> None:
        if end > self.size:
            raise self.fail(
                f"truncated GGUF: {self.doing} needs at least {end:,} bytes, but the file has {self.size:,}"
            )
        if end > _MAX_HEADER:
            raise self.fail(
                f"{self.doing} ends at byte {end:,}, past the limit of {_MAX_HEADER:,} for a header: "
                "damaged, or not a model"
            )

    def _take(self, n: int) -> int:
        """Read the next ``n`` bytes and move past them; returns where they begin in the piece."""
        if self._at + n > len(self._piece):
            self._check(self.pos + n)
            parts = [self._piece[self._at :]]
            have = len(parts[0])
            while have < n:
                parts.append(self._file.read(max(_READ, n - have)))
                have += len(parts[-1])
                if not parts[-1]:
                    raise self.fail("the file shrank while it was read")
            self._start += self._at
            self._piece, self._at = b"".join(parts), 0
        at = self._at
        self._at += n
        return at

    def go_to(self, pos: int) -> None:
        """Skip to ``pos``."""
        if pos <= self._start + len(self._piece):
            self._at = pos - self._start
        else:
            self._check(pos)
            self._file.seek(pos)
            self._piece, self._start, self._at = b"", pos, 0

    def unpack(self, fields: struct.Struct) -> tuple[int, ...]:
        at = self._take(fields.size)
        return fields.unpack_from(self._piece, at)

    def string(self, limit: int, what: str = "") -> str:
        """Read a string and keep it."""
        (length,) = self.unpack(_U64)
        self._check(self.pos + length)
        if length > limit:
            raise self.fail(
                f"{what or self.doing} is {length:,} bytes long, more than {limit:,}: damaged, or not a model"
            )
        self._keep(length)
        at = self._take(length)
        return self._piece[at : at + length].decode("utf-8", "replace")

    def _keep(self, n: int) -> None:
        self._kept += n
        if self._kept > _MAX_KEPT:
            raise self.fail(
                f"{self.doing}: the texts up to and including this one have more than {_MAX_KEPT:,} bytes together: "
                "damaged, or not a model"
            )

    def value(self, key: str, kind: int) -> Value:
        if kind == _STRING and key == _WHOLE_TOKENIZER:
            start = self.pos
            (length,) = self.unpack(_U64)
            self.go_to(self.pos + length)
            return ArrayRef(_STRING, 1, start, self.pos)
        if kind == _STRING:
            return self.string(_MAX_TEXT)
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind != _ARRAY:
            raise self.fail(f"{self.doing} has the unknown type {kind}: damaged, or a newer format")
        element, count = self.unpack(_ARRAY_HEAD)
        if element == _STRING:
            return self._skip_strings(count)
        if element not in _SCALARS:  # llama.cpp takes no arrays of arrays either
            raise self.fail(f"{self.doing} is an array of the unknown type {element}: damaged")
        if count <= _SMALL_ARRAY:
            self._keep(8 * count)
            return [self.unpack(_SCALARS[element])[0] for _ in range(count)]
        start = self.pos
        self.go_to(start + count * _SCALARS[element].size)
        return ArrayRef(element, count, start, self.pos)

    def _skip_strings(self, count: int) -> ArrayRef:
        start = self.pos
        self._check(start + 8 * count)
        self._strings += count
        if self._strings > _MAX_STRINGS:
            raise self.fail(
                f"{self.doing} is an array of {count:,} strings; together, arrays may have at most "
                f"{_MAX_STRINGS:,}: damaged, or not a model"
            )
        unpack_from = _U64.unpack_from
        done = 0
        while done < count:
            # A bare loop up to the end of the window, because there may be a million strings. A string that ends
            # far behind the window is too long; the others need no check.
            begin, at = self._take(8), 0
            window = self._piece[begin : begin + _WINDOW]
            with suppress(struct.error, OverflowError):  # end of the window, or offset too large
                for done in range(done, count):  # noqa: B007, B020 -- used after the loop
                    at += 8 + unpack_from(window, at)[0]
                done = count
            end = self._start + begin + at
            if at > len(window) + _WINDOW:
                self._check(end)
                raise self.fail(
                    f"{self.doing}: string {done - 1:,} is more than {_WINDOW:,} bytes long: damaged, or not a model"
                )
            self.go_to(end)
        return ArrayRef(_STRING, count, start, self.pos)


def _tensor(reader: _Reader) -> TensorInfo:
    name = reader.string(_MAX_NAME, "the name of a tensor")
    (n_dims,) = reader.unpack(_U32)
    if not 1 <= n_dims <= 8:
        raise reader.fail(f"tensor {name!r} has {n_dims} dimensions")
    shape = reader.unpack(_SHAPES[n_dims])
    type_id, offset = reader.unpack(_ARRAY_HEAD)
    kind = GGML_TYPES.get(type_id)
    if kind is None:
        return TensorInfo(name, shape, f"type {type_id}", offset, None)
    if shape[0] % kind.block:
        raise reader.fail(f"tensor {name!r}: a row of {shape[0]} does not fit {kind.name} blocks")
    return TensorInfo(name, shape, kind.name, offset, kind.row_bytes(math.prod(shape)))


def _not_gguf(name: str, file: BinaryIO) -> InvalidModel:
    from .file_kinds import BEGINNING, file_kind  # 1 ms, only for what is not a model

    beginning = file.read(BEGINNING)
    kind = file_kind(beginning)
    if kind is None:
        seen = beginning[: len(_MAGIC)]
        return InvalidModel(
            name,
            f"not a GGUF file: it begins with {seen!r}, not {_MAGIC!r}; give the path of a GGUF file",
        )
    return InvalidModel(name, f"this is {kind.what}, not a GGUF file: {kind.way_out}", kind.name)


def _check_data(reader: _Reader, tensors: list[TensorInfo], data_offset: int) -> None:
    end = max((data_offset + t.offset + (t.n_bytes or 0) for t in tensors), default=0)
    if end > reader.size:
        raise reader.fail(
            f"truncated GGUF: its tensors end at byte {end:,}, but the file has {reader.size:,}; "
            "download or copy it again"
        )


def read_gguf(file: BinaryIO, name: str) -> GgufHeader:
    """Read and check the header of an open, seekable file; ``name`` is for error messages.

    Raises:
        InvalidModel: not a GGUF file, an unknown version, truncated, inconsistent, or larger than any model's header.
    """
    reader = _Reader(file, name)
    version, n_tensors, n_values = _begin(reader, file)
    start = reader.pos
    metadata: dict[str, Value] = {}
    kinds: dict[str, int] = {}
    vocabulary: list[Span] = []
    for _ in range(n_values):
        before = reader.pos
        reader.doing = "the metadata"
        key = reader.string(_MAX_NAME, "a key")
        reader.doing = shown(key)
        if key in metadata:
            raise reader.fail(f"{reader.doing} is there twice: damaged, or not a model")
        (kind,) = reader.unpack(_U32)
        metadata[key] = reader.value(key, kind)
        kinds[key] = kind
        if key.startswith("tokenizer.") and not key.startswith("tokenizer.chat_template"):
            if vocabulary and vocabulary[-1][1] == before:
                before = vocabulary.pop()[0]
            vocabulary.append((before, reader.pos))
    metadata_end = reader.pos
    reader.doing = "the tensor table"
    tensors = [_tensor(reader) for _ in range(n_tensors)]
    table_end = reader.pos

    if not isinstance(metadata.get("general.architecture"), str) and not _is_later_part(metadata):
        raise reader.fail("the metadata has no general.architecture")
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment is {alignment!r}, not a power of two")
    data_offset = -(-table_end // alignment) * alignment
    _check_data(reader, tensors, data_offset)
    return GgufHeader(
        version=version,
        metadata=metadata,
        tensors=tuple(tensors),
        data_offset=data_offset,
        file_size=reader.size,
        metadata_span=(start, metadata_end),
        vocabulary_spans=tuple(vocabulary),
        tensors_span=(metadata_end, table_end),
        kinds=kinds,
    )


def _is_later_part(metadata: dict[str, Value]) -> bool:
    """Whether it is one of a split model's files, and not the first, which alone has the metadata."""
    number, count = metadata.get("split.no"), metadata.get("split.count")
    return isinstance(number, int) and isinstance(count, int) and number > 0 and count > 1


def _begin(reader: _Reader, file: BinaryIO) -> tuple[int, int, int]:
    """Read the version, the number of tensors and the number of values."""
    if reader.size == 0:
        raise reader.fail("the file is empty: download or copy it again")
    magic = file.read(len(_MAGIC))
    file.seek(0)
    if magic != _MAGIC:
        raise _not_gguf(reader.name, file)
    reader.go_to(len(_MAGIC))
    (version,) = reader.unpack(_U32)
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "big"), "little") in (2, 3)
        why = "written for big-endian machines" if swapped else "only versions 2 and 3 can be read"
        raise reader.fail(f"GGUF version {version}: {why}")
    n_tensors, n_values = reader.unpack(_COUNTS)
    if n_tensors * 24 + n_values * 12 > reader.size:
        raise reader.fail(
            f"truncated GGUF: {n_tensors:,} tensors and {n_values:,} values do not fit into the file"
        )
    for n, most, what in ((n_values, _MAX_VALUES, "values"), (n_tensors, _MAX_TENSORS, "tensors")):
        if n > most:
            raise reader.fail(f"{n:,} {what}, more than {most:,}: not a model")
    return version, n_tensors, n_values
