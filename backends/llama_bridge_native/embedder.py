"""Embeddings: a second context over the same weights, so that the conversation's KV cache stays as it is."""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llama_bridge.engine import batches_of
from llama_bridge.errors import EngineError
from llama_bridge.later_signals import LaterSignals
from llama_bridge.params import Pooling

from .library import LoggedErrors, lib

__all__ = ["Embedder"]

_SEQUENCES = 64
_STATEFUL_SEQUENCES = 4
"""The same where each has a whole running state."""
_MOST_LOGITS = 32 << 20
"""Bytes. llama.cpp computes the logits of every token that it pools, which nobody reads: 600 kB each with 150,000 words."""
_DONE, _ABORTED = 0, 2
_FIELDS: dict[str, Any] = dict(lib.llama_batch._fields_)


class Embedder:
    """Computes embeddings. The context is made at the first use, and again when a longer text needs a larger one.

    Args:
        model: llama.cpp's model.
        make_context: makes a context for so many tokens, so many of them at once, of so many sequences; so many of those
            are pooled.
        pooling: how the tokens' vectors become one.
        n_batch: the most tokens at once, except for a longer sequence.
        n_ctx: the most tokens of a sequence.
        causal: whether a token attends only to those before it.
        stateful: whether each sequence has a running state instead of KV cells.
        stop: whether it was cancelled.
    """

    def __init__(
        self,
        model: Any,
        make_context: Callable[[int, int, int, int], Any],
        pooling: Pooling,
        *,
        n_batch: int,
        n_ctx: int,
        causal: bool,
        stateful: bool,
        stop: Callable[[], bool],
    ) -> None:
        self._make_context = make_context
        self._n_batch = n_batch
        self._n_ctx = n_ctx
        self._stop = stop
        self._encodes = lib.llama_model_has_encoder(model)
        ranks = pooling == "rank"
        self._width = int(
            (lib.llama_model_n_cls_out if ranks else lib.llama_model_n_embd_out)(model)
        )
        self._n_sequences = min(_STATEFUL_SEQUENCES if stateful else _SEQUENCES, n_batch)
        n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self._with_logits = max(self._n_sequences, _MOST_LOGITS // (4 * n_vocab))
        # Only the last token is pooled, and it attends to the others through the KV cache: they can go first.
        self._in_two = causal and pooling in ("last", "rank")
        self._context: Any = None
        self._memory: Any = None
        self._capacity = 0

    def embed(self, sequences: Sequence[array[int]]) -> memoryview[float] | None:
        """See :meth:`Engine.embed`; the arguments are checked."""
        rows: list[bytes] = []
        for batch in batches_of(sequences, self._n_batch, self._n_sequences):
            if self._stop() or not self._compute(batch):
                return None
            rows += map(self._row, range(len(batch)))
        found = memoryview(b"".join(rows))
        values = found.cast("f")
        if not math.isfinite(sum(values.tolist())) and not all(map(math.isfinite, values)):
            self.close()  # whatever it holds may be NaN
            raise EngineError("llama.cpp computed NaN or infinity: the model is damaged")
        return found.cast("f", (len(rows), self._width))

    def _row(self, i: int) -> bytes:
        values = lib.llama_get_embeddings_seq(self._context, i)
        if not values:
            raise EngineError("llama.cpp gave no embedding of a text")
        return ctypes.string_at(values, 4 * self._width)

    def _compute(self, batch: list[array[int]]) -> bool:
        """Evaluate sequences; False if cancelled."""
        n_tokens = sum(map(len, batch))
        self._reserve(n_tokens)
        if self._memory is not None:
            lib.llama_memory_clear(self._memory, False)
        if not self._in_two or n_tokens <= self._with_logits:
            return self._evaluate(_Batch(batch, output=True))
        heads = _Batch([sequence[:-1] for sequence in batch], output=False)
        lasts = _Batch([sequence[-1:] for sequence in batch], output=True, after=heads.lengths)
        lib.llama_set_embeddings(self._context, False)
        try:
            if not self._evaluate(heads):
                return False
        finally:
            lib.llama_set_embeddings(self._context, True)
        return self._evaluate(lasts)

    def _evaluate(self, batch: _Batch) -> bool:
        for part in batch.parts(self._n_batch if self._in_two else len(batch)):
            if self._stop():
                return False
            with LoggedErrors() as errors:
                work = lib.llama_encode if self._encodes else lib.llama_decode
                status = work(self._context, part)
                errors.reraise()
            if status == _ABORTED:
                return False
            if status != _DONE:
                raise EngineError(f"llama.cpp could not embed, with status {status}: {errors}")
        return True

    def _reserve(self, n_tokens: int) -> None:
        """Have a context for so many tokens."""
        if n_tokens <= self._capacity:
            return
        self.close()
        capacity = self._n_batch
        while capacity < n_tokens:
            capacity *= 2
        capacity = self._whole(max(n_tokens, min(capacity, max(self._n_ctx, self._n_batch))))
        at_once = self._whole(self._n_batch) if self._in_two else capacity
        at_once = min(at_once, capacity)
        n_outputs = min(at_once, self._with_logits) if self._in_two else at_once
        context = self._make_context(capacity, at_once, self._n_sequences, n_outputs)
        self._memory = lib.llama_get_memory(context)
        self._context, self._capacity = context, capacity

    def _whole(self, n_tokens: int) -> int:
        """Rounded up to what all sequences share evenly: llama.cpp aborts when it reserves memory for another number."""
        return -(-n_tokens // self._n_sequences) * self._n_sequences

    def close(self) -> None:
        """Free the context. The next use makes another."""
        context, self._context = self._context, None
        self._memory, self._capacity = None, 0
        if context is not None:
            with LaterSignals():
                lib.llama_free(context)


class _Batch:
    """A llama_batch of several sequences from their own beginnings, in arrays of Python's."""

    def __init__(
        self, sequences: list[array[int]], *, output: bool, after: Sequence[int] = ()
    ) -> None:
        self.lengths = [len(sequence) for sequence in sequences]
        self._tokens, self._positions = array("i"), array("i")
        self._numbers = array("i", range(len(sequences)))
        first, size = self._numbers.buffer_info()[0], self._numbers.itemsize
        self._owners = array("Q" if ctypes.sizeof(ctypes.c_void_p) == 8 else "L")
        for i, sequence in enumerate(sequences):
            start = after[i] if after else 0
            self._tokens += sequence
            self._positions.extend(range(start, start + len(sequence)))
            self._owners.extend([first + i * size] * len(sequence))
        self._ones = array("i", [1]) * len(self)
        self._outputs = array("b", [int(output)]) * len(self)

    def __len__(self) -> int:
        return len(self._tokens)

    def parts(self, most: int) -> Iterator[Any]:
        """The batch in pieces of at most so many tokens, each valid as long as this object lives."""
        for start in range(0, len(self), most):
            part = lib.llama_batch()
            part.n_tokens = min(most, len(self) - start)
            part.embd = None
            for name, values in (
                ("token", self._tokens),
                ("pos", self._positions),
                ("n_seq_id", self._ones),
                ("seq_id", self._owners),
                ("logits", self._outputs),
            ):
                address = values.buffer_info()[0] + start * values.itemsize
                setattr(part, name, ctypes.cast(address, _FIELDS[name]))
            yield part
