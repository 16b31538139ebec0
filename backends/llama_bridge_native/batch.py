"""A batch of tokens of one or more sequences, laid out as llama.cpp takes it."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

from llama_bridge.params import MAX_PARALLEL

from .library import lib

__all__ = ["Batch"]

_NUMBERS = (ctypes.c_int32 * MAX_PARALLEL)(*range(MAX_PARALLEL))
_WHERE = ctypes.addressof(_NUMBERS)


class Batch:
    """Room for tokens, used again and again.

    Attributes:
        tokens: their ids. An array of int32 refuses what is none, where ctypes would cut it.
        given: what llama.cpp takes.
    """

    def __init__(self, room: int) -> None:
        self.tokens = array("i", bytes(4 * room))
        self._numbers = (ctypes.c_void_p * room)()
        self._wanted = (ctypes.c_int8 * room)()
        self._ones = (ctypes.c_int32 * room)(*[1] * room)
        self.given = lib.llama_batch(
            n_tokens=0,
            token=(ctypes.c_int32 * room).from_buffer(self.tokens),
            n_seq_id=self._ones,
            seq_id=ctypes.cast(self._numbers, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=self._wanted,
        )

    def fill(self, pieces: Sequence[tuple[int, array[int]]], n_wanted: int = 1) -> list[int]:
        """Take the tokens of some sequences, given by their numbers; returns where the last token of each is.

        The logits after so many last tokens of each are wanted.
        """
        rows: list[int] = []
        end = 0
        for number, tokens in pieces:
            start, end = end, end + len(tokens)
            self.tokens[start:end] = tokens
            self._numbers[start:end] = [_WHERE + 4 * number] * len(tokens)
            for i in range(start, end):
                self._wanted[i] = i + n_wanted >= end
            rows.append(end - 1)
        self.given.n_tokens = end
        return rows
