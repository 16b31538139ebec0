"""The engine of a model that only embeds, such as a BERT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.engine import EncoderCalls, EngineInfo, MemoryKind
from llama_bridge.engine_arguments import check_length
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams

from .engine import NativeEngine

__all__ = ["NativeEncoder"]

_BATCH = 256
"""More tokens at once are no faster: the attention of many short texts is mostly masked."""


class NativeEncoder(EncoderCalls, NativeEngine):
    """Owns a model that only embeds. Its own context holds next to nothing; the embedder has another."""

    def _describe(self, file: ModelFile, params: ModelParams, memory: MemoryKind) -> EngineInfo:
        info = super()._describe(file, params, memory)
        # A position beyond those that the model was trained with may be outside its tables.
        n_ctx = min(info.n_ctx_train, params.asked_n_ctx or info.n_ctx_train)
        return replace(info, n_ctx=n_ctx, n_batch=min(params.n_batch, _BATCH))

    def _set_up(self, model: Any, context: Any, file: ModelFile, params: ModelParams) -> None:
        super()._set_up(model, context, file, params)
        self.capabilities &= (
            Capability.CANCEL
            | Capability.TOKENS
            | Capability.THREADS
            | Capability.GPU_OFFLOAD
            | Capability.EMBEDDINGS
            | Capability.RERANK
            | Capability.ADAPTERS
        )

    @property
    def length(self) -> int:
        self.check_alive()
        return 0

    def truncate(self, length: int) -> bool:
        self.check_alive()
        return check_length(length) == 0

    def clear(self) -> None:
        self.check_alive()
