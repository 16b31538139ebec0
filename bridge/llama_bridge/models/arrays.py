"""Reads the long arrays of a model's header, which stay in the file until somebody needs them."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

from ..errors import InvalidModel
from .gguf import NUMBERS, ArrayRef
from .source import ModelFile

__all__ = ["read_bytes", "read_integers", "read_numbers", "read_strings"]

_BYTES, _INT32, _STRING = (0, 1), 5, 8


def read_strings(model: ModelFile, key: str) -> list[bytes]:
    """The strings of an array; empty if the header has none of that name. Takes 25 ms for 150,000.

    Raises:
        InvalidModel: the file shrank since its header was read.
    """
    found = model.header.metadata.get(key)
    if not isinstance(found, ArrayRef) or found.element_type != _STRING:
        return []
    data = _bytes(model, found)
    strings: list[bytes] = []
    unpack_from, append, at = struct.Struct("<Q").unpack_from, strings.append, 0
    for _ in repeat(None, found.count):  # a bare loop: there may be a million
        start = at + 8
        at = start + unpack_from(data, at)[0]
        append(data[start:at])
    return strings


def read_integers(model: ModelFile, key: str) -> Sequence[int]:
    """The 32-bit integers of an array; empty if the header has none of that name.

    Raises:
        InvalidModel: the file shrank since its header was read.
    """
    found = model.header.metadata.get(key)
    if isinstance(found, list):  # a short one, which was read with the header
        return [value for value in found if isinstance(value, int)]
    numbers = array("i")
    if isinstance(found, ArrayRef) and found.element_type == _INT32:
        numbers.frombytes(_bytes(model, found))
        if sys.byteorder == "big":
            numbers.byteswap()
    return numbers


def read_bytes(model: ModelFile, key: str) -> bytes:
    """An array of bytes, signed or not; empty if the header has none of that name.

    Raises:
        InvalidModel: the file shrank since its header was read.
    """
    found = model.header.metadata.get(key)
    if isinstance(found, list):
        return bytes(int(value) % 256 for value in found if isinstance(value, int))
    if isinstance(found, ArrayRef) and found.element_type in _BYTES:
        return _bytes(model, found)
    return b""


def read_numbers(model: ModelFile, key: str, most: int) -> Sequence[int | float]:
    """The first so many numbers of an array of any type; empty if the header has none of that name.

    Raises:
        InvalidModel: the file shrank since its header was read.
    """
    found = model.header.metadata.get(key)
    if isinstance(found, list):
        return found[:most]
    if not isinstance(found, ArrayRef) or found.element_type not in NUMBERS:
        return []
    one = struct.Struct("<" + NUMBERS[found.element_type])
    count = min(found.count, most)
    data = _bytes(model, replace(found, end=found.start + count * one.size))
    return [value for (value,) in one.iter_unpack(data)]


def _bytes(model: ModelFile, where: ArrayRef) -> bytes:
    parts: list[bytes] = []
    left = where.end - where.start
    with model.open() as file:
        file.seek(where.start)
        while left:
            if not (part := file.read(left)):
                raise InvalidModel(model.path, "the file shrank while it was read")
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
