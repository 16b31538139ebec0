"""Reads the long arrays of a model's header, which stay in the file until somebody needs them."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence

from ..errors import InvalidModel
from .gguf import ArrayRef
from .source import ModelFile

__all__ = ["read_integers", "read_strings"]

_INT32, _STRING = 5, 8


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
    unpack_from, at = struct.Struct("<Q").unpack_from, 0
    for _ in range(found.count):
        (size,) = unpack_from(data, at)
        at += 8 + size
        strings.append(data[at - size : at])
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
