"""Rows of candidate tokens, laid out as llama.cpp's samplers take them, and a sampler that is a Python function."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from .library import lib

__all__ = ["Candidates", "Tap"]

_RULED_OUT = -8388608
"""The bits of -inf, as an int32."""


class Candidates:
    """An array of ``llama_token_data``: id, logit and probability of each token, 12 bytes, here as int32.

    Attributes:
        cells: the three numbers of each token; 0 as an integer is 0 as a float.
        address: what a sampler takes.
    """

    def __init__(self, cells: array[int]) -> None:
        self.cells = cells
        size = len(cells) // 3
        data = (lib.llama_token_data * size).from_buffer(cells) if size else None
        self._array = lib.llama_token_data_array(data, size, -1, False)
        self.address = ctypes.pointer(self._array)

    @classmethod
    def of(cls, tokens: Sequence[int]) -> Candidates:
        """A row of these tokens, all with logit 0."""
        cells = array("i", bytes(12 * len(tokens)))
        cells[0::3] = array("i", tokens)
        return cls(cells)

    def apply(self, sampler: Any) -> None:
        """Let a sampler work on the row."""
        lib.llama_sampler_apply(sampler, self.address)

    def left(self) -> list[int]:
        """The tokens that a grammar has not ruled out."""
        ids, logits = self.cells[0::3], self.cells[1::3]
        return [token for token, logit in zip(ids, logits, strict=True) if logit != _RULED_OUT]

    @property
    def floats(self) -> memoryview[float]:
        """The cells as float32."""
        view: memoryview[float] = memoryview(self.cells).cast("B").cast("f")
        return view

    def set_logits(self, logits: memoryview[float] | array[float]) -> None:
        """Set the logit of each token, in the order of the row."""
        self.floats[1::3] = memoryview(logits)


def _name(_: Any) -> bytes:
    return b"tap"


class Tap:
    """A sampler that calls a Python function with a row of candidates: ``llama_token_data_array``.

    An exception in it does not get through llama.cpp: it is kept for :meth:`reraise`. One that a signal handler raises
    on the first or last line of the callback cannot be kept: callers hold signals back with
    :class:`~llama_bridge.later_signals.LaterSignals`, and :meth:`reraise` also sees whether the function was through.
    """

    def __init__(self, look: Callable[[Any], None]) -> None:
        self._look = look
        self._failure: BaseException | None = None
        self._through = False
        name = lib.llama_sampler_i_name(_name)
        apply = lib.llama_sampler_i_apply(self._apply)
        self._interface = lib.llama_sampler_i(name=name, apply=apply)

    def sampler(self) -> Any:
        """A sampler to add to a chain, which frees it. The tap must live as long."""
        return lib.llama_sampler_init(ctypes.pointer(self._interface), None)

    def begin(self) -> None:
        """The chain is about to draw."""
        self._failure, self._through = None, False

    def _apply(self, _: Any, given: Any) -> None:
        try:
            # llama.cpp ends the process for a row without a selected token, and an interrupt may come between any two
            # changes. So the function gets a copy, which takes the row's place in one step.
            row = lib.llama_token_data_array.from_buffer_copy(given.contents)
            self._look(row)
            ctypes.memmove(given, ctypes.byref(row), ctypes.sizeof(row))
            self._through = True
        except BaseException as error:
            self._failure = error

    def reraise(self) -> None:
        """Raise what the function raised.

        Raises:
            KeyboardInterrupt: it was not through, so a signal's exception came where ctypes only prints it.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if not self._through:
            raise KeyboardInterrupt
