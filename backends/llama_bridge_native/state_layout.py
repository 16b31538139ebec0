"""Checks llama.cpp's copy of a sequence before llama.cpp reads it.

llama.cpp itself compares layers, types and row sizes, but not positions; wrong ones make it answer nonsense or
abort. The layout is from ``state_write`` and ``state_read`` in ``llama-kv-cache.cpp``,
``llama-memory-recurrent.cpp`` and the memories made of these. All fields are little-endian:

.. code-block:: text

    memory     dense: attention | SWA: attention, then its window | recurrent: recurrent
               hybrid: attention, its window if there is one, recurrent
    attention  u32 streams | u32 cells | cell... | u32 V transposed | u32 layers | K row... | V row...
    cell       i32 position | u32 sequences | M-RoPE only: i32 x, y, token | i32 sequence
    row        i32 type | u64 bytes of a cell | the bytes of all cells
               V transposed: i32 type | u32 bytes of an element | u32 elements of a cell | the elements
    recurrent  u32 cells | i32 position | u32 sequences | u32 transposed | u32 layers | row...
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from llama_bridge.models.ggml_types import GGML_TYPES

__all__ = ["SPARSE_ATTENTION", "StateLayout"]

SPARSE_ATTENTION = frozenset(
    (
        "deepseek32",
        "deepseek4",
        "dots3note",
        "glm-dsa",
        "glm5-next",
        "hy_v4",
        "minimax-m3",
        "qwen4exp",
    )
)
"""Architectures whose memory has parts not described here; their sessions are not loaded from files."""

_PAIR = struct.Struct("<II")
_CELL = struct.Struct("<iI")
_CELL_COUNT_AND_POSITION = struct.Struct("<Ii")
_ONE = struct.Struct("<I")
_ROW = struct.Struct("<iQ")
_COLUMNS = struct.Struct("<iII")
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_F32 = 0


@dataclass(frozen=True, slots=True)
class StateLayout:
    """The memory of one context.

    Attributes:
        type_k, type_v: ggml's numbers of the K and V types.
        attention, recurrent: what the memory is made of.
        n_layers: of the model; attention may omit some, or add one that only drafts use.
        values: whether V is kept; multi-head latent attention keeps only K.
        extended: whether cells have more than a position, as M-RoPE needs.
        window: length of the sliding window, 0 without one.
        chunked: whether the window jumps instead of sliding, as in Llama 4.
    """

    type_k: int
    type_v: int
    attention: bool
    recurrent: bool
    n_layers: int
    values: bool = True
    extended: bool = False
    window: int = 0
    chunked: bool = False

    def n_tokens(self, state: memoryview) -> int:
        """How many tokens a state claims to hold; 0 if unknown."""
        fields = _PAIR if self.attention else _CELL_COUNT_AND_POSITION
        if len(state) < fields.size:
            return 0
        last: int = fields.unpack_from(state)[1]
        return last if self.attention else max(0, last + 1)

    def check(self, state: memoryview, tokens: Sequence[int]) -> None:
        """Check that a state, without the engine's prefix, holds exactly these tokens.

        Raises:
            ValueError: it does not; the message says why.
        """
        reader = _Reader(state)
        if self.attention:
            self._check_attention(reader, tokens, first_needed=0)
            if self.window and (self.recurrent or reader.left):
                self._check_attention(reader, tokens, self.window_start(len(tokens)))
        if self.recurrent:
            self._check_recurrent(reader, len(tokens))
        if reader.left:
            raise ValueError(f"{reader.left} bytes too many")

    def disown(self, state: memoryview) -> None:
        """Let all cells of a state, as llama.cpp gives it, belong to sequence 0, so that equal conversations look equal."""
        if not self.attention:
            return
        reader = _Reader(state)
        for _ in range(2 if self.window else 1):
            if not reader.left:
                break
            n_cells = reader.take(_PAIR)[1]
            width = 6 if self.extended else 3
            reader.words(n_cells * width)[width - 1 :: width] = memoryview(
                array("i", bytes(4 * n_cells))
            )
            self._skip_values(reader, n_cells)

    def window_start(self, position: int) -> int:
        """The first cell that the token at a position attends to."""
        if self.chunked:
            return position // self.window * self.window
        return max(0, position - self.window + 1)

    def _check_attention(self, reader: _Reader, tokens: Sequence[int], first_needed: int) -> None:
        n_streams, n_cells = reader.take(_PAIR)
        if n_streams != 1 or not 1 <= n_cells <= len(tokens):
            raise ValueError(f"{n_streams} streams, {n_cells} cells for {len(tokens)} tokens")
        self._check_cells(reader, n_cells, tokens, first_needed)
        self._skip_values(reader, n_cells)

    def _skip_values(self, reader: _Reader, n_cells: int) -> None:
        transposed, n_layers = reader.take(_PAIR)
        if transposed > 1 or n_layers > _MAX_LAYERS:
            raise ValueError(f"{n_layers} layers, transposed: {transposed}")
        for _ in range(n_layers):
            reader.skip_row(self.type_k, n_cells)
        for _ in range(n_layers if self.values else 0):
            if transposed:
                reader.skip_columns(self.type_v, n_cells)
            else:
                reader.skip_row(self.type_v, n_cells)

    def _check_cells(
        self, reader: _Reader, n_cells: int, tokens: Sequence[int], first_needed: int
    ) -> None:
        width = 6 if self.extended else 3
        cells = reader.words(n_cells * width)
        positions = cells[::width].tolist()
        first = len(tokens) - n_cells
        # In a window and after a rewind, cells are in any order, which attention allows.
        if first > first_needed or sorted(positions) != list(range(first, len(tokens))):
            raise ValueError("its positions do not match its tokens")
        once, own = cells[1::width].tolist(), cells[width - 1 :: width].tolist()
        if once != [1] * n_cells or own != [0] * n_cells:
            raise ValueError("a cell belongs to another sequence")
        if self.extended:
            if not cells[2::width].tolist() == cells[3::width].tolist() == positions:
                raise ValueError("a cell has a position that is not of text")
            if cells[4::width].tolist() != [tokens[position] for position in positions]:
                raise ValueError("its cells hold other tokens")

    def _check_recurrent(self, reader: _Reader, n_tokens: int) -> None:
        (n_cells,) = reader.take(_ONE)
        if n_cells != 1 or reader.take(_CELL) != (n_tokens - 1, 0):
            raise ValueError("its recurrent state does not belong to its last token")
        transposed, n_layers = reader.take(_PAIR)
        if transposed or n_layers != self.n_layers:
            raise ValueError(f"{n_layers} layers, not {self.n_layers}, or transposed")
        n_rows = 0
        while reader.left:  # up to two for each layer with a recurrent state
            n_rows += 1
            if n_rows > 2 * n_layers:
                raise ValueError(f"more than two rows for each of {n_layers} layers")
            reader.skip_row(_F32, 1)


class _Reader:
    """Reads through a state; reading past its end is an error."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, fields: struct.Struct) -> tuple[int, ...]:
        at = self._skip(fields.size)
        return fields.unpack_from(self._data, at)

    def words(self, n: int) -> memoryview[int]:
        at = self._skip(4 * n)
        return self._data[at : self._at].cast("i")

    def skip_row(self, type_: int, n_cells: int) -> None:
        found, n_bytes = self.take(_ROW)
        if found != type_ or n_bytes % GGML_TYPES[type_].n_bytes:
            raise ValueError(f"a layer of type {found} with {n_bytes} bytes for a cell")
        self._skip(n_bytes * n_cells)

    def skip_columns(self, type_: int, n_cells: int) -> None:
        found, n_bytes, n_elements = self.take(_COLUMNS)
        if found != type_ or n_bytes != GGML_TYPES[type_].n_bytes:
            raise ValueError(f"a layer of type {found} with {n_bytes} bytes for an element")
        self._skip(n_bytes * n_elements * n_cells)

    def _skip(self, n: int) -> int:
        if n > self.left:
            raise ValueError(f"it ends {n - self.left} bytes too early")
        at = self._at
        self._at += n
        return at
