"""Checks from its header whether a model can fit into a guest's memory, before anything is read or compiled."""

from __future__ import annotations

from llama_bridge.errors import OutOfMemory
from llama_bridge.models.memory import least_kv_bytes_per_token
from llama_bridge.models.pooling import is_causal
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams

from ..abi import MAX_MEMORY

__all__ = ["check_fit"]

_MIB = 1 << 20
_MODULE = 17 * _MIB
"""llama.wasm's own memory at the start."""
_VOCABULARY = 150
"""The least bytes that llama.cpp keeps per token: its text, and the map from text to token."""


def check_fit(model: ModelFile, params: ModelParams) -> None:
    """Refuse a model that cannot fit. One that passes may still fail in llama.cpp, whose work space is not counted here.

    Raises:
        OutOfMemory: the message has the numbers, and the context that would fit.
    """
    limit = min(params.memory_limit, MAX_MEMORY)
    weights = sum(part.header.file_size - part.header.data_offset for part in model.files)
    vocabulary = _VOCABULARY * model.header.n_vocab
    n_ctx = params.context_length(model.n_ctx_train)
    each = 0  # an encoder has no KV cache
    if is_causal(model.header):
        each = least_kv_bytes_per_token(model.header, params.type_k, params.type_v)
    room = limit - weights - vocabulary - _MODULE
    if n_ctx * each <= room:
        return
    numbers = (
        f"its weights of {weights / _MIB:.0f} MiB, a KV cache of {n_ctx * each / _MIB:.0f} MiB for "
        f"{n_ctx} tokens and {(vocabulary + _MODULE) / _MIB:.0f} MiB for llama.wasm and the vocabulary do not fit "
        f"{limit / _MIB:.0f} MiB"
    )
    if each and room >= 256 * each:
        way_out = (
            f"Load with n_ctx of at most {room // each // 256 * 256}, or use the native backend."
        )
    elif limit < MAX_MEMORY:
        way_out = "Load with a larger memory_limit (4 GiB at most), a smaller model, or the native backend."
    else:
        way_out = "Load a smaller model, or use the native backend: 32-bit WebAssembly has 4 GiB."
    raise OutOfMemory(model.path, f"{numbers}. {way_out}")
