"""llama.cpp's embeddings by its own C calls, as its examples make them: what ours are compared with, here and in the tests."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_bridge_native.library import lib

__all__ = ["RawEmbedder"]


class RawEmbedder:
    """A model and a context for embeddings, in the way of llama.cpp's ``examples/embedding``."""

    def __init__(self, path: str | Path, n_batch: int, fused: bool, n_threads: int) -> None:
        self.n_batch = n_batch
        options = lib.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(str(path).encode(), options)
        self.vocab = lib.llama_model_get_vocab(self.model)
        settings = lib.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = n_batch
        settings.n_seq_max = 64
        settings.n_threads = settings.n_threads_batch = n_threads
        settings.kv_unified = True
        settings.embeddings = True
        settings.flash_attn_type = int(fused)
        self.context = lib.llama_init_from_model(self.model, settings)
        self.pooling = lib.llama_pooling_type(self.context)
        ranks = self.pooling == lib.LLAMA_POOLING_TYPE_RANK
        self.width = (lib.llama_model_n_cls_out if ranks else lib.llama_model_n_embd_out)(
            self.model
        )

    @classmethod
    @contextmanager
    def of(
        cls, path: str | Path, *, n_batch: int = 512, fused: bool = True, n_threads: int = 1
    ) -> Iterator[RawEmbedder]:
        """Open one, and free it at the end."""
        raw = cls(path, n_batch, fused, n_threads)
        try:
            yield raw
        finally:
            lib.llama_free(raw.context)
            lib.llama_model_free(raw.model)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of a text."""
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 16))()
        n = lib.llama_tokenize(
            self.vocab, data, len(data), room, len(room), add_special, parse_special
        )
        return room[:n]

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """All in one batch."""
        batch = lib.llama_batch_init(sum(map(len, sequences)), 0, 1)
        at = 0
        for number, tokens in enumerate(sequences):
            for position, token in enumerate(tokens):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.logits[at], batch.seq_id[at][0] = 1, 1, number
                at += 1
        batch.n_tokens = at
        memory = lib.llama_get_memory(self.context)
        if memory:
            lib.llama_memory_clear(memory, True)
        work: Any = (
            lib.llama_encode if lib.llama_model_has_encoder(self.model) else lib.llama_decode
        )
        assert work(self.context, batch) == 0
        lib.llama_batch_free(batch)
        rows = (lib.llama_get_embeddings_seq(self.context, i) for i in range(len(sequences)))
        return [row[: self.width] for row in rows]

    def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """Tokenise texts and embed them in their order, as many at a time as fit."""
        rows: list[list[float]] = []
        batch: list[list[int]] = []
        for text in texts:
            tokens = self.tokenize(text, add_special=True, parse_special=False)
            if batch and (sum(map(len, batch)) + len(tokens) > self.n_batch or len(batch) == 64):
                rows += self.embed(batch)
                batch = []
            batch.append(tokens)
        return rows + self.embed(batch)
