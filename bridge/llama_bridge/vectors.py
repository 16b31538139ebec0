"""Embedding vectors: what ``embed`` returns for several texts."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

from .checks import check_count, shown
from .errors import InvalidInput

__all__ = ["Ranked", "Vectors"]

_FLOAT = 4


class Ranked(NamedTuple):
    """A document's place in the answer of ``rerank``.

    Attributes:
        index: of the document in the list that was given.
        score: how well it fits the query; only comparable among documents ranked by one model.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index(), which no one needs on a pair
    score: float


class Vectors(Sequence["memoryview[float]"]):
    """Float32 vectors of one length, in the order of their texts. They cannot be changed.

    A vector is a read-only :class:`memoryview` of format ``"f"``: it has ``len()``, indices, ``tolist()``, and is read
    without a copy by whatever knows Python's buffer protocol. ``numpy.asarray(vectors)`` is an array of shape
    ``(len(vectors), n_embd)``, also without a copy. From Python 3.12 on ``memoryview(vectors)`` works too; before, take
    :attr:`view`.

    Args:
        data: ``4 * n_embd`` bytes for each vector, in the machine's byte order.
        n_embd: how many numbers a vector has.
    """

    __slots__ = ("_data", "_floats", "_n_embd")

    def __init__(self, data: bytes | bytearray | memoryview, n_embd: int) -> None:
        try:
            self._data = bytes(memoryview(data))  # bytes() of a number is so many zeros
        except TypeError as error:
            raise InvalidInput(f"data={shown(data)}: give bytes") from error
        self._n_embd = check_count("n_embd", n_embd, least=1)
        if len(self._data) % (_FLOAT * n_embd):
            raise InvalidInput(f"{len(self._data)} bytes are not vectors of {n_embd} numbers")
        self._floats: memoryview[float] = memoryview(self._data).cast("f")

    @property
    def n_embd(self) -> int:
        """How many numbers each vector has."""
        return self._n_embd

    @property
    def shape(self) -> tuple[int, int]:
        """``(len(self), n_embd)``."""
        return len(self), self._n_embd

    @property
    def view(self) -> memoryview[float]:
        """All numbers as one read-only memoryview of format ``"f"`` and :attr:`shape`; of one dimension if empty."""
        if not self._data:
            return self._floats
        return memoryview(self._data).cast("B").cast("f", self.shape)

    def __len__(self) -> int:
        return len(self._data) // (_FLOAT * self._n_embd)

    @overload
    def __getitem__(self, index: int) -> memoryview[float]: ...
    @overload
    def __getitem__(self, index: slice) -> Vectors: ...
    def __getitem__(self, index: int | slice) -> memoryview[float] | Vectors:
        if isinstance(index, slice):
            rows = range(len(self))[index]
            return Vectors(b"".join(self._row(row) for row in rows), self._n_embd)
        return self._row(range(len(self))[index])

    def _row(self, row: int) -> memoryview[float]:
        return self._floats[row * self._n_embd : (row + 1) * self._n_embd]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vectors):
            return NotImplemented
        return self._n_embd == other._n_embd and self._data == other._data

    def __hash__(self) -> int:
        return hash((self._n_embd, self._data))

    def __repr__(self) -> str:
        return f"<Vectors: {len(self)} of {self._n_embd} float32 numbers>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Vectors, (self._data, self._n_embd)

    def __buffer__(self, flags: int) -> memoryview[Any]:
        return self.view

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # How numpy reads memory of any class, before Python 3.12 too.
        return {"version": 3, "shape": self.shape, "typestr": "=f4", "data": self._floats}

    def tolist(self) -> list[list[float]]:
        """The numbers as lists."""
        return [list(row) for row in self]

    def normalized(self) -> Vectors:
        """Each vector scaled to the length 1, so that the dot product of two is their cosine similarity.

        A vector of zeros stays one.
        """
        scaled = array("f")
        for row in self:
            values = list(row)
            length = math.hypot(*values)
            factor = 1.0 / length if length > 0 else 0.0
            scaled.extend([value * factor for value in values])
        return Vectors(scaled.tobytes(), self._n_embd)
