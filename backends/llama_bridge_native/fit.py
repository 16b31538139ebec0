"""Checks from its header whether a model can fit into this machine's memory, and finds what "auto" takes.

What cannot fit: weights, KV cache and work space together exceed the memory of the machine, or of its container, and of the
GPUs that are used. Weights alone may exceed what is free now: they are mapped from the file, and the system reads parts of
it again as they are needed, which is slow. KV cache and work space may not, nor those weights which llama.cpp
copies in another order: nothing can take their place.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_bridge.errors import OutOfMemory
from llama_bridge.models.fitting import (
    NATIVE,
    Gpu,
    copied_weights,
    gpu_share,
    lacking,
    largest_layers,
    need_of,
    planned_room,
    settled,
    ways_out,
)
from llama_bridge.models.memory_need import MemoryNeed
from llama_bridge.models.pooling import is_causal
from llama_bridge.models.source import ModelFile
from llama_bridge.params import AUTO, ModelParams
from llama_bridge.system_memory import SystemMemory

__all__ = ["check_fit", "settle"]


def settle(
    model: ModelFile, params: ModelParams, memory: SystemMemory, gpus: Sequence[Gpu] = ()
) -> ModelParams:
    """The settings with numbers in place of "auto"."""
    if AUTO not in (params.n_ctx, params.n_gpu_layers):
        return params
    room = planned_room(NATIVE, memory)
    return settled(model.header, params, model.n_ctx_train, NATIVE, room, gpus)


def check_fit(
    model: ModelFile, params: ModelParams, memory: SystemMemory, gpus: Sequence[Gpu] = ()
) -> None:
    """Refuse a model that cannot fit.

    Raises:
        OutOfMemory: the message has the numbers, and the context that would fit.
    """
    if not params.check_memory:
        return
    n_ctx = params.context_length(model.n_ctx_train)
    own = [gpu for gpu in gpus if not gpu.is_shared]
    layers = params.asked_gpu_layers if gpus else 0
    there = _need_on_gpus(model, params, n_ctx, layers, gpus) if layers else 0
    free = sum(gpu.free for gpu in gpus)
    if there > free:
        fit = largest_layers(model.header, params, model.n_ctx_train, gpus)
        raise OutOfMemory(
            model.path,
            f"{_size(there)} of weights, KV cache and work space do not fit the {_size(free)} that are free on "
            f"{', '.join(gpu.name for gpu in gpus)}. Load it with n_gpu_layers of at most {fit}, or with "
            f'n_gpu_layers="auto". {_ANYWAY}',
            needed=there,
            limit=free,
        )
    copied = 0 if layers else copied_weights(model.header)
    gpu_total = sum(gpu.total for gpu in own) if layers else 0

    def lacks(settings: ModelParams, length: int) -> str:
        need = _need(model, settings, length)
        on_gpus = gpu_share(model.header, settings, length, layers)[1] if layers else 0
        return lacking(need, memory, copied=copied, gpu_total=gpu_total, cache_on_gpus=on_gpus)

    lack = lacks(params, n_ctx)
    if not lack:
        return
    need = _need(model, params, n_ctx)
    if lack == "total":
        limit = (memory.total or 0) + gpu_total
        whose = "this container may use" if memory.is_limited else "this machine has"
        wrong = f"but {whose} {_size(limit)}"
    else:
        limit = memory.available or 0
        wrong = f"and {_size(limit)} are free, into which cache, work space and rearranged weights must fit"
    longest, ways = ways_out(
        model.header, params, n_ctx, lambda settings, length: not lacks(settings, length)
    )
    way_out = f"Load it {', or '.join(ways)}" if ways else "Load a smaller model"
    raise OutOfMemory(
        model.path,
        f"its weights of {_size(need.weights)}, a KV cache of {_size(need.cache)} for {n_ctx:,} tokens and "
        f"{_size(need.work)} to compute in need {_size(need.total)}, {wrong}. {way_out}. {_ANYWAY}",
        needed=need.total,
        limit=limit,
        n_ctx=longest,
    )


def _need(model: ModelFile, params: ModelParams, n_ctx: int) -> MemoryNeed:
    """What is certainly needed."""
    need = need_of(model.header, params, NATIVE, n_ctx) if is_causal(model.header) else None
    if need is not None:
        return need
    return MemoryNeed(sum(tensor.n_bytes or 0 for tensor in model.header.tensors), 0, 0)


def _need_on_gpus(
    model: ModelFile, params: ModelParams, n_ctx: int, layers: int, gpus: Sequence[Gpu]
) -> int:
    """What is certainly needed on GPUs: work space was never found to be less than nine tenths of the CPU's."""
    cuda = any(gpu.name.startswith("CUDA") for gpu in gpus)
    return (
        sum(gpu_share(model.header, params, n_ctx, layers))
        + _need(model, params, n_ctx).work * 9 // 10
        + _CUDA * cuda
    )


_CUDA = 64 << 20
"""What CUDA takes for itself when it computes the first batch: 72 to 84 MiB on an H200, 176 MiB without fused attention.
Where that is missing, llama.cpp ends the process."""
_ANYWAY = "check_memory=False tries it all the same"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
