"""Finds NaN and infinity among weights in a file. Without numpy and without an engine, so in pages, too."""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import BinaryIO, NamedTuple

from ..errors import InvalidModel
from .ggml_types import GGML_TYPES
from .gguf import TensorInfo
from .source import ModelFile

__all__ = ["about_tensor", "not_finite", "refuse_not_finite"]

_PIECE = 1 << 20
_BLOCKS = {kind.name: kind for kind in GGML_TYPES.values()}

_HALF_PLACES: dict[str, tuple[int, ...]] = {
    "F16": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "Q1_0": (0,),
    "Q2_0": (0,),
}
"""Where a block has numbers at half precision: its scale, and its minimum. From ggml-common.h."""


class _Mask(NamedTuple):
    """Which bits of a byte of a block are part of an exponent: NaN and infinity have all of them set."""

    place: int
    bits: int


def _masks(kind: str) -> Generator[tuple[_Mask, ...]]:
    """The bytes that hold each exponent of a block."""
    if kind == "F32":
        yield _Mask(3, 0x7F), _Mask(2, 0x80)
    elif kind == "BF16":
        yield _Mask(1, 0x7F), _Mask(0, 0x80)
    elif kind == "MXFP4":
        yield (_Mask(0, 0xFF),)  # a scale of eight bits, all of them exponent
    elif kind == "IQ1_M":  # the scale's four digits are the first ones of four numbers
        yield _Mask(55, 0x70), _Mask(53, 0xC0)
    for place in _HALF_PLACES.get(kind, ()):
        yield (_Mask(place + 1, 0x7C),)


def not_finite(kind: str, data: bytes) -> tuple[int, str] | None:
    """The first block of weights with a number that is none.

    Args:
        kind: the tensor type, such as ``"Q4_0"``.
        data: whole blocks of it.

    Returns:
        The number of the block, and ``"NaN"`` or ``"infinity"``; None if all are finite, or whole numbers.
    """
    if (block := _BLOCKS.get(kind)) is None:
        return None
    found = [
        (at, _what(kind, data[at * block.n_bytes :][: block.n_bytes], masks))
        for masks in _masks(kind)
        if (at := _first(data, block.n_bytes, masks)) is not None
    ]
    return min(found, default=None)


def _first(data: bytes, step: int, masks: tuple[_Mask, ...]) -> int | None:
    """The first block where all these bits are set. Whole columns of bytes at a time: about a millisecond for each MB."""
    both: int | None = None
    for place, bits in masks:
        column = data[place::step].translate(_TABLES[bits])
        if 1 not in column:
            return None
        marks = int.from_bytes(column, "little")
        both = marks if both is None else both & marks
    if not both:
        return None
    return ((both & -both).bit_length() - 1) // 8


_TABLES = {
    bits: bytes(byte & bits == bits for byte in range(256))
    for bits in (0x7F, 0x80, 0xFF, 0x70, 0xC0, 0x7C)
}


def _what(kind: str, block: bytes, masks: tuple[_Mask, ...]) -> str:
    """Infinity is an exponent of ones and nothing behind it."""
    place = masks[0].place
    if kind == "F32":
        behind = int.from_bytes(block[:4], "little") & 0x7FFFFF
    elif kind == "BF16":
        behind = block[0] & 0x7F
    elif kind == "MXFP4":
        behind = 1  # it has no infinity
    elif kind == "IQ1_M":
        first, second = block[49] >> 4, block[51] >> 4
        behind = (block[53] >> 4 & 3) << 8 | second << 4 | first
    else:
        (bits,) = struct.unpack_from("<H", block, place - 1)
        behind = bits & 0x3FF
    return "NaN" if behind else "infinity"


def refuse_not_finite(file: ModelFile) -> None:
    """Read all weights of a file, and refuse it if one is not a finite number. Takes a second for each GB; for small files.

    Raises:
        InvalidModel: names the tensor; or the file cannot be read.
    """
    for part in file.files:
        if sum(tensor.n_bytes or 0 for tensor in part.header.tensors) > part.header.file_size:
            raise InvalidModel(part.path, "its tensors overlap: damaged")
        for tensor in part.header.tensors:
            if wrong := _about(part, tensor):
                raise InvalidModel(part.path, wrong)


def about_tensor(file: ModelFile, name: str) -> str:
    """What is wrong with a tensor in which an engine found a number that is none; ``name`` is as the engine has it."""
    for part in file.files:
        for tensor in part.header.tensors:
            if tensor.name == name and (wrong := _about(part, tensor)):
                return wrong
    return f"tensor {name} holds NaN or infinity: damaged"


def _read(stream: BinaryIO, n: int) -> bytes:
    """So many bytes, fewer at the end of the file: an unbuffered read may give less than there is."""
    data = stream.read(n)
    while len(data) < n and (more := stream.read(n - len(data))):
        data += more
    return data


def _about(file: ModelFile, tensor: TensorInfo) -> str:
    block = _BLOCKS.get(tensor.type_name)
    if block is None or tensor.n_bytes is None:
        return ""
    piece = _PIECE // block.n_bytes * block.n_bytes
    start = file.header.data_offset + tensor.offset
    end = start + tensor.n_bytes
    try:
        with file.open() as stream:
            for at in range(start, end, piece):
                stream.seek(at)
                data = _read(stream, min(piece, end - at))
                if found := not_finite(tensor.type_name, data):
                    number = (at - start) // block.n_bytes + found[0]
                    return (
                        f"tensor {tensor.name} holds {found[1]} (weight {number * block.block:,} of "
                        f"{tensor.n_elements:,}, {tensor.type_name}): damaged"
                    )
    except OSError as error:
        raise InvalidModel(file.path, f"cannot be read: {error.strerror or error}") from error
    return ""
