"""Embeddings: the guest computes them in a context of its own (``wasm/shim/embed.cpp``), batch by batch."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence

from llama_bridge.engine import EngineInfo, MemoryKind, batches_of
from llama_bridge.errors import EngineError, OutOfMemory
from llama_bridge.models.adapter import Adapter
from llama_bridge.models.pooling import POOLINGS
from llama_bridge.models.source import ModelFile

from .. import abi
from ..abi import Guest, Status
from .calls import Calls
from .marshal import Buffer
from .plans import BEFORE_A_PLAN, bytes_of_plan, has_room

__all__ = ["Embedder"]

_STATEFUL_SEQUENCES = 4
_MOST_WIDTH = 1 << 16
_MIB = 1 << 20


class Embedder:
    """Embeds with the loaded model.

    Args:
        guest: what computes.
        calls: access to it.
        buffer: arguments and results.
        model: the loaded model.
        info: facts about it.
    """

    def __init__(
        self, guest: Guest, calls: Calls, buffer: Buffer, model: ModelFile, info: EngineInfo
    ) -> None:
        self._guest = guest
        self._calls = calls
        self._buffer = buffer
        self._model = model
        self._info = info
        self._adapters: Sequence[Adapter] = ()
        self._has_context = False  # in the guest; a larger one takes the place of a smaller one
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

    def use(self, adapters: Sequence[Adapter]) -> None:
        """The guest has put these in force, and makes its context anew. With the lock held."""
        self._adapters, self._has_context = adapters, False

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
        if not self._has_context:
            self._check_room()
        status = self._guest.call("lb_embed", pointer, after, after + len(lengths), out)
        self._has_context = status >= 0 or status == Status.CANCELLED
        if status == Status.CANCELLED:
            return None
        self._calls.checked(status)
        return self._guest.read(out, n_bytes)

    def _check_room(self) -> None:
        """Refuse what would end the guest. What comes after the plan llama.cpp refuses itself."""
        needed = BEFORE_A_PLAN + bytes_of_plan(self._model, self._adapters)
        if not has_room(self._guest, needed):
            raise OutOfMemory(
                str(self._model.path),
                f"to embed takes about {needed / _MIB:.0f} MiB beside the model "
                f"({self._guest.memory_size / _MIB:.0f} MiB in use): load it with a smaller n_ctx, or with a larger "
                "memory_limit (4 GiB at most)",
            )

    def _ask_width(self) -> int:
        width = self._calls.call("lb_embed_width", self._pooling)
        if not 1 <= width <= _MOST_WIDTH:
            raise EngineError(f"llama.wasm makes vectors of {width:,} numbers")
        return width
