"""Writes a model as several files, as llama.cpp's ``gguf-split`` does: ``python -m tools.split_model MODEL FOLDER/NAME PARTS``.

The first part has all metadata, each has its tensors, and three numbers that say which part of what it is.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from llama_bridge.models.ggml_types import GGML_TYPES
from llama_bridge.models.gguf import GgufHeader, TensorInfo
from llama_bridge.models.part_name import PartName
from llama_bridge.models.source import open_model

__all__ = ["split_model"]

_U16, _I32 = 2, 5
_TYPES = {kind.name: number for number, kind in GGML_TYPES.items()}


def split_model(model: Path, base: Path, count: int, *, empty_first: bool = False) -> list[Path]:
    """Write the parts beside each other, and return their paths.

    Args:
        model: a whole model.
        base: path of the parts without ``-00001-of-00003.gguf``.
        count: how many.
        empty_first: whether the first part has no tensors, as with ``--no-tensor-first-split``.
    """
    header = open_model(model).header
    data = model.read_bytes()
    groups = _groups(header.tensors, count - 1 if empty_first else count)
    if empty_first:
        groups = [(), *groups]
    called = PartName(str(base), 1, count)
    written: list[Path] = []
    for number, tensors in enumerate(groups, 1):
        path = Path(str(called.at(number)))
        path.write_bytes(_part(data, header, number, count, tensors))
        written.append(path)
    return written


def _groups(tensors: Sequence[TensorInfo], count: int) -> list[Sequence[TensorInfo]]:
    edges = [len(tensors) * i // count for i in range(count + 1)]
    return [tensors[start:end] for start, end in itertools.pairwise(edges)]


def _part(
    data: bytes, header: GgufHeader, number: int, count: int, tensors: Sequence[TensorInfo]
) -> bytes:
    numbers = [
        ("split.no", _U16, struct.pack("<H", number - 1)),
        ("split.count", _U16, struct.pack("<H", count)),
        ("split.tensors.count", _I32, struct.pack("<i", len(header.tensors))),
    ]
    values = b"".join(_text(key) + struct.pack("<I", kind) + raw for key, kind, raw in numbers)
    n_values = len(numbers)
    if number == 1:
        values = data[slice(*header.metadata_span)] + values
        n_values += len(header.metadata)
    alignment = header.number("general.alignment", 32) if number == 1 else 32
    table, body = bytearray(), bytearray()
    for tensor in tensors:
        table += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        table += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        table += struct.pack("<IQ", _TYPES[tensor.type_name], len(body))
        at = header.data_offset + tensor.offset
        body += data[at : at + (tensor.n_bytes or 0)]
        body += bytes(-len(body) % alignment)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), n_values) + values + table
    return head + bytes(-len(head) % alignment) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


if __name__ == "__main__":
    for path in split_model(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])):
        print(path)
