"""Embeddings: the guest computes them in a context of its own (``wasm/shim/embed.cpp``), batch by batch."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence

from llama_bridge.engine import EngineInfo, MemoryKind, batches_of
from llama_bridge.errors import EngineError
from llama_bridge.models.pooling import POOLINGS

from .. import abi
from ..abi import Guest, Status
from .calls import Calls
from .marshal import Buffer

__all__ = ["Embedder"]

_STATEFUL_SEQUENCES = 4
_MOST_WIDTH = 1 << 16


class Embedder:
    """Embeds with the loaded model.

    Args:
        guest: what computes.
        calls: access to it.
        buffer: arguments and results.
        info: facts about the model.
    """

    def __init__(self, guest: Guest, calls: Calls, buffer: Buffer, info: EngineInfo) -> None:
        self._guest = guest
        self._calls = calls
        self._buffer = buffer
        self._info = info
        self._pooling = POOLINGS.index(info.pooling)
        stateful = info.memory in (MemoryKind.RECURRENT, MemoryKind.HYBRID)
        self._n_sequences = _STATEFUL_SEQUENCES if stateful else abi.EMBED_SEQUENCES
        self._width = 0

    def embed(
        self, sequences: Sequence[array[int]], cancelled: Callable[[], bool]
    ) -> memoryview[float] | None:
        """See :meth:`Engine.embed`; the arguments are checked."""
        rows = bytearray()
        for batch in batches_of(sequences, self._info.n_batch, self._n_sequences):
            if cancelled():
                return None
            self._calls.line_up()
            with self._calls.lock:
                found = self._compute(batch)
            if found is None:
                return None
            rows += found
            self._guest.pause()
        return memoryview(bytes(rows)).cast("f", (len(sequences), self._width))

    def _compute(self, batch: list[array[int]]) -> bytearray | None:
        """The rows of one batch; None if cancelled. With the lock held."""
        width = self._width = self._width or self._ask_width()
        n_tokens = sum(map(len, batch))
        lengths = struct.pack(f"<{len(batch)}i", *map(len, batch))
        capacity = self._info.n_batch
        while capacity < n_tokens:
            capacity *= 2
        params = abi.EMBED_PARAMS.pack(
            self._pooling,
            int(self._info.flash_attn),
            len(batch),
            n_tokens,
            self._info.n_batch,
            capacity,
        )
        data = b"".join((params, lengths, *(tokens.tobytes() for tokens in batch)))
        n_bytes = 4 * width * len(batch)
        pointer = self._buffer.reserve(len(data) + n_bytes)
        self._guest.write(pointer, data)
        after = pointer + len(params)
        out = pointer + len(data)
        status = self._guest.call("lb_embed", pointer, after, after + len(lengths), out)
        if status == Status.CANCELLED:
            return None
        self._calls.checked(status)
        return self._guest.read(out, n_bytes)

    def _ask_width(self) -> int:
        width = self._calls.call("lb_embed_width", self._pooling)
        if not 1 <= width <= _MOST_WIDTH:
            raise EngineError(f"llama.wasm makes vectors of {width:,} numbers")
        return width
