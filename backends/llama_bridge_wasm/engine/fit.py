"""Checks from its header whether a model can fit into a guest's memory, before anything is read or compiled.

What is refused here cannot fit: only what is certainly needed counts. What "auto" takes, and the context that an error
names, count what was measured, with room to spare.
"""

from __future__ import annotations

from dataclasses import replace

from llama_bridge.errors import OutOfMemory
from llama_bridge.models.fitting import WASM, need_of, planned_room, settled, ways_out
from llama_bridge.models.memory import least_kv_bytes_per_token
from llama_bridge.models.pooling import is_causal
from llama_bridge.models.source import ModelFile
from llama_bridge.params import AUTO, ModelParams
from llama_bridge.system_memory import SystemMemory

from ..abi import MAX_MEMORY

__all__ = ["check_fit", "settle"]

_MIB = 1 << 20
_MODULE = 17 * _MIB
"""llama.wasm's own memory at the start."""
_VOCABULARY = 150
"""The least bytes that llama.cpp keeps per token: its text, and the map from text to token."""


def settle(model: ModelFile, params: ModelParams, memory: SystemMemory) -> ModelParams:
    """The settings with numbers in place of "auto". There is no GPU here."""
    if AUTO not in (params.n_ctx, params.n_gpu_layers):
        return params
    params = replace(params, n_gpu_layers=params.asked_gpu_layers)
    room = planned_room(WASM, memory, _limit(params))
    return settled(model.header, params, model.n_ctx_train, WASM, room)


def _limit(params: ModelParams) -> int:
    return min(params.memory_limit, MAX_MEMORY)


def check_fit(model: ModelFile, params: ModelParams, memory: SystemMemory) -> None:
    """Refuse a model that cannot fit. One that passes may still fail in llama.cpp.

    Raises:
        OutOfMemory: the message has the numbers, and the context that would fit.
    """
    if not params.check_memory:
        return
    limit = _limit(params)
    is_of_machine = memory.total is not None and memory.total < limit
    if is_of_machine:
        limit = memory.total or limit
    weights = sum(part.header.file_size - part.header.data_offset for part in model.files)
    vocabulary = _VOCABULARY * model.header.n_vocab
    n_ctx = params.context_length(model.n_ctx_train)
    each = 0  # an encoder has no KV cache
    if is_causal(model.header):
        each = least_kv_bytes_per_token(model.header, params.type_k, params.type_v)
    needed = weights + vocabulary + _MODULE + n_ctx * each
    if needed <= limit:
        return
    numbers = (
        f"its weights of {weights / _MIB:.0f} MiB, a KV cache of {n_ctx * each / _MIB:.0f} MiB for "
        f"{n_ctx} tokens and {(vocabulary + _MODULE) / _MIB:.0f} MiB for llama.wasm and the vocabulary do not fit "
        f"{limit / _MIB:.0f} MiB" + " of this machine" * is_of_machine
    )

    room = planned_room(WASM, SystemMemory(None, None), limit) or 0

    def fits(settings: ModelParams, length: int) -> bool:
        need = need_of(model.header, settings, WASM, length)
        return need is not None and need.total <= room

    longest, ways = ways_out(model.header, params, n_ctx, fits) if each else (None, [])
    if ways:
        way_out = f"Load it {', or '.join(ways)}, or use the native backend."
    elif limit < MAX_MEMORY and not is_of_machine:
        way_out = "Load with a larger memory_limit (4 GiB at most), a smaller model, or the native backend."
    else:
        way_out = "Load a smaller model, or use the native backend: 32-bit WebAssembly has 4 GiB."
    raise OutOfMemory(
        model.path, f"{numbers}. {way_out}", needed=needed, limit=limit, n_ctx=longest
    )
