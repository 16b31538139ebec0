"""Checks the normaliser of a UGM (T5) tokenizer: what llama.cpp reads out of bounds ends the process.

``precompiled_charsmap`` is a 32-bit length, a double-array trie of so many bytes, and texts that end with NUL. A unit of the
trie has bits 0 to 7 for its label, 8 for whether a text belongs to it, 10 to 30 for where its children are (bit 9: times
256), and 31 where it is no unit but the place of a text. See ``llm_tokenizer_ugm_session`` in ``llama-vocab.cpp``.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Generator

from .arrays import read_bytes
from .source import ModelFile

__all__ = ["wrong_charsmap"]

_KEY = "tokenizer.ggml.precompiled_charsmap"
_NO_UNIT = 1 << 31
_HAS_TEXT = 1 << 8


def wrong_charsmap(model: ModelFile) -> Generator[str]:
    """Describe what is wrong with it, if there is one."""
    if _KEY not in model.header.metadata:
        return
    data = read_bytes(model, _KEY)
    if len(data) < 4:
        yield f"{_KEY} has {len(data)} bytes: damaged"
        return
    (size,) = struct.unpack_from("<I", data)
    if size + 4 >= len(data) or size % 4:
        yield f"{_KEY} has {len(data):,} bytes, but its trie claims {size:,}: damaged"
        return
    units = array("I", data[4 : 4 + size])
    if sys.byteorder == "big":
        units.byteswap()
    texts = data[4 + size :]
    if texts[-1]:
        yield f"{_KEY} ends in the middle of a text: damaged"
    if units and not _is_sound(units, len(texts)):
        yield f"{_KEY} leads out of its own bounds: damaged"


def _is_sound(units: array[int], n_texts: int) -> bool:
    """Whether no step from any unit, with any byte, leaves the trie, and no text begins after the last."""
    n = len(units)
    if _children(units[0]) | 255 >= n:
        return False
    for i, unit in enumerate(units):
        if unit < _NO_UNIT:
            at = i ^ _children(unit)
            if at | 255 >= n:
                return False
            if unit & _HAS_TEXT and units[at] & (_NO_UNIT - 1) >= n_texts:
                return False
    return True


def _children(unit: int) -> int:
    return unit >> 10 << ((unit & 512) >> 6)
