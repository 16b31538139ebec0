"""What fits: the longest context, the most layers on a GPU. Pure arithmetic over :mod:`memory_need`.

Memory is three things. The weights are mapped from the file on native, so the system can drop and read them again; the KV
cache and the work space cannot be dropped. On a GPU, and in llama.wasm, nothing can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..params import AUTO, MAX_N_CTX, KvType, ModelParams
from ..system_memory import SystemMemory
from .ggml_types import GGML_TYPES, KV_TYPES
from .gguf import GgufHeader, TensorInfo
from .memory import MOST_LAYERS
from .memory_need import CELLS, MemoryNeed, cache_by_layer, gpu_work, memory_need
from .pooling import is_causal

__all__ = [
    "NATIVE",
    "WASM",
    "Gpu",
    "Place",
    "copied_weights",
    "gpu_need",
    "gpu_share",
    "lacking",
    "largest_layers",
    "longest_context",
    "need_of",
    "planned_room",
    "settled",
    "spare",
    "takes_q8_0",
    "ways_out",
    "with_kv",
]

_BASE = 4096
"""Tokens of context for which an automatic choice of layers makes room on the GPU."""
_UNKNOWN = 4096
_DRAWING = 12
"""Bytes that a sequence's sampler keeps for each token of the vocabulary: id, logit and probability."""
_MIB = 1 << 20
_COPIED = ("Q4_0", "Q4_K", "IQ4_NL")
"""Those that are copied on both. Others are on ARM only, or with AVX-512 only, and are left out."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a backend takes besides a model's own numbers.

    Attributes:
        name: of the backend.
        at_once: the most tokens that it computes at once.
        outputs: for how many of them it has room for logits, at least for one of each sequence; None for all.
        own: bytes without a model.
        per_token: bytes for each token of the vocabulary.
        least: tokens that an automatic context has at least, even if they do not fit what is free.
        per_half: bytes for each matrix weight of half precision.
    """

    name: str
    at_once: int
    outputs: int | None
    own: int
    per_token: int
    least: int
    per_half: float = 0


NATIVE = Place("native", 512, None, 0, 0, 2048)
WASM = Place("wasm", 128, 16, 34 * _MIB, 270, 512, per_half=2 / 32)
"""Measured with 32,000 to 150,000 tokens in the vocabulary: llama.wasm itself, its threads, and what it reads into. It keeps a
scale for 32 weights of half precision."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that llama.cpp can use.

    Attributes:
        name: in llama.cpp's words.
        free, total: bytes of its memory.
        is_shared: whether that is the machine's own memory.
    """

    name: str
    free: int
    total: int
    is_shared: bool = False


def need_of(
    header: GgufHeader, params: ModelParams, place: Place, n_ctx: int, *, own: bool = True
) -> MemoryNeed | None:
    """What a model needs on a backend with these settings; None for an architecture whose cache is not known.

    Args:
        header: of the model's file.
        params: load-time settings; their ``n_ctx`` does not count.
        place: the backend.
        n_ctx: tokens of context.
        own: whether the work space has what the backend takes by itself.
    """
    need = memory_need(
        header,
        n_ctx,
        at_once=min(params.n_batch, place.at_once, n_ctx),
        outputs=place.outputs,
        type_k=params.type_k,
        type_v=params.type_v,
        flash_attn=params.flash_attn,
        n_parallel=params.n_parallel,
    )
    if need is None or not own:
        return need
    drawing = _DRAWING * (params.n_parallel - 1)
    more = place.own + (place.per_token + drawing) * header.n_vocab
    halves = sum(tensor.n_bytes or 0 for tensor in header.tensors if _is_half_matrix(tensor)) // 2
    return MemoryNeed(need.weights + int(place.per_half * halves), need.cache, need.work + more)


def _is_half_matrix(tensor: TensorInfo) -> bool:
    return tensor.type_name == "F16" and len(tensor.shape) > 1


def longest_context(most: int, fits: Callable[[int], bool]) -> int:
    """The longest context of at most ``most`` tokens that fits: ``most`` itself, or a multiple of 256; 0 if none fits."""
    if most > 0 and fits(most):
        return most
    low, high = 0, max(0, most) // CELLS
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * CELLS):
            low = middle
        else:
            high = middle - 1
    return low * CELLS


def lacking(
    need: MemoryNeed,
    memory: SystemMemory,
    *,
    copied: int = 0,
    gpu_total: int = 0,
    cache_on_gpus: int = 0,
) -> Literal["total", "free", ""]:
    """Which memory is too small for a model on native: all of it, or what is free; "" if none is.

    Weights are mapped from the file. They may be more than what is free: the system then reads parts of them again and
    again, which is slow. Nothing can take the place of KV cache, work space, and copies of weights.

    Args:
        need: what the model takes.
        memory: of this machine.
        copied: bytes of weights that are copied; see :func:`copied_weights`.
        gpu_total: memory of GPUs that take layers, if it is not the machine's own.
        cache_on_gpus: bytes of the cache that go there.
    """
    if memory.total is not None and need.total > memory.total + gpu_total:
        return "total"
    fixed = need.cache + need.work + copied - (cache_on_gpus if gpu_total else 0)
    return "free" if memory.available is not None and fixed > memory.available else ""


def copied_weights(header: GgufHeader) -> int:
    """Bytes of weights that llama.cpp's CPU backend copies in another order, which the mapped file cannot give again.

    These are matrices of some types (``ggml-cpu/repack.cpp``) on x86 with AVX2 and on ARM with dot products. The mapped
    originals are not read again, so the system may drop them: such weights do not count twice.
    """
    return sum(
        tensor.n_bytes or 0
        for tensor in header.tensors
        if tensor.type_name in _COPIED
        and len(tensor.shape) in (2, 3)
        and tensor.shape[1] % 8 == 0
        and not tensor.name.startswith("token_embd")
    )


def planned_room(place: Place, memory: SystemMemory, limit: int = 1 << 62) -> int | None:
    """Bytes that an automatic choice may use of what is free now; None if nobody knows.

    Native leaves a tenth to others, and at least 256 MiB; llama.wasm a twentieth, and at least 16 MiB: a memory that grows
    piece by piece cannot be filled to its end.

    Args:
        place: the backend.
        memory: of this machine.
        limit: of llama.wasm.
    """
    room = memory.available
    if room is None and memory.total is not None:
        room = memory.total * 3 // 4
    if place is WASM:
        room = limit if room is None else min(room, limit)
        return max(0, room - max(room // 20, 16 * _MIB))
    return None if room is None else max(0, room - spare(room))


def spare(room: int) -> int:
    """Bytes of a memory that an automatic choice leaves to others: a tenth, and at least 256 MiB."""
    return max(room // 10, 256 * _MIB)


def with_kv(params: ModelParams, kind: KvType) -> ModelParams:
    """The same settings with a KV cache of this type."""
    return replace(params, type_k=kind, type_v=kind, flash_attn=True)


def takes_q8_0(header: GgufHeader, params: ModelParams) -> bool:
    """Whether a q8_0 KV cache is possible, and smaller than the one of the settings."""
    sizes = [GGML_TYPES[KV_TYPES[t]] for t in (params.type_k, params.type_v, "q8_0")]
    k, v, q8_0 = (t.n_bytes / t.block for t in sizes)
    arch = header.architecture
    heads = header.number(f"{arch}.attention.head_count")
    if heads < 1 or k + v <= 2 * q8_0:
        return False
    width = header.number(f"{arch}.embedding_length") // heads
    lengths = [header.number(f"{arch}.attention.{n}_length", width) for n in ("key", "value")]
    return all(n % sizes[-1].block == 0 for n in lengths)


def ways_out(
    header: GgufHeader,
    params: ModelParams,
    n_ctx: int,
    fits: Callable[[ModelParams, int], bool],
) -> tuple[int, list[str]]:
    """The longest context that fits instead of ``n_ctx``, 0 if none does, and the settings to load with, as text.

    Args:
        header: of the model's file.
        params: the settings that do not fit.
        n_ctx: their length of context.
        fits: whether settings and a length of context do.
    """
    longest = longest_context(n_ctx, lambda length: fits(params, length))
    ways = [f"with a smaller n_ctx ({longest:,} at most)"] if longest else []
    if takes_q8_0(header, params):
        small = with_kv(params, "q8_0")
        if shorter := longest_context(n_ctx, lambda length: fits(small, length)):
            also = f" and a smaller n_ctx ({shorter:,} at most)" if shorter < n_ctx else ""
            ways.append(f'with type_k="q8_0", type_v="q8_0"{also}')
    return longest, ways


def gpu_share(header: GgufHeader, params: ModelParams, n_ctx: int, layers: int) -> tuple[int, int]:
    """Bytes of weights, and of KV cache, that go to GPUs with so many layers there, counted as llama.cpp does.

    The last layers go there first, and before them what makes logits of the last one's output. The table of tokens stays
    with the CPU; it goes to the GPU too if it is also what makes logits.
    """
    n_layers = _layers(header)
    start = _on_cpu(header, layers)
    if start > n_layers:
        return 0, 0
    weights = sum(_layer_bytes(header, n_layers)[start:])
    at_once = min(params.n_batch, NATIVE.at_once, n_ctx)
    cache = cache_by_layer(
        header,
        n_ctx,
        at_once=at_once,
        type_k=params.type_k,
        type_v=params.type_v,
        n_parallel=params.n_parallel,
    )
    return weights, int(sum((cache or [])[start:]))


def gpu_need(header: GgufHeader, params: ModelParams, n_ctx: int, layers: int, gpus: int) -> int:
    """The most bytes that so many GPUs need together with so many layers there: weights, KV cache, and work space on each."""
    work = gpu_work(
        header,
        n_ctx,
        _on_cpu(header, layers),
        at_once=min(params.n_batch, NATIVE.at_once, n_ctx),
        type_k=params.type_k,
        type_v=params.type_v,
        flash_attn=params.flash_attn,
        n_parallel=params.n_parallel,
    )
    return sum(gpu_share(header, params, n_ctx, layers)) + (work or 0) * gpus


def _on_cpu(header: GgufHeader, layers: int) -> int:
    """How many layers stay with the CPU, with so many on GPUs; the output counts as the last one."""
    n_layers = _layers(header)
    return max(0, n_layers + 1 - layers) if layers >= 0 else 0


def _layers(header: GgufHeader) -> int:
    return min(max(0, header.number(f"{header.architecture}.block_count")), MOST_LAYERS)


def _layer_bytes(header: GgufHeader, n_layers: int) -> list[int]:
    """Bytes of weights by layer; the last is the output."""
    found = [0] * (n_layers + 1)
    table = 0
    has_output = False
    for tensor in header.tensors:
        size = tensor.n_bytes or 0
        kind, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if kind == "blk" and number.isdecimal() and len(number) < 9 and int(number) < n_layers:
            found[int(number)] += size
        elif kind.startswith("output"):
            found[n_layers] += size
            has_output = has_output or kind == "output"
        elif kind == "token_embd":
            table = size
    if not has_output:
        found[n_layers] += table
    return found


def largest_layers(
    header: GgufHeader, params: ModelParams, n_ctx_train: int, gpus: Sequence[Gpu]
) -> int:
    """The most layers that fit into the free memory of these GPUs, with the output; 0 without a GPU."""
    room = sum(max(0, gpu.free - spare(gpu.free)) for gpu in gpus)
    n_ctx = params.asked_n_ctx or (min(n_ctx_train, _BASE) if n_ctx_train > 0 else _BASE)
    need = need_of(header, params, NATIVE, n_ctx)
    if need is None or not room:
        return 0

    def fits(layers: int) -> bool:
        return gpu_need(header, params, n_ctx, layers, len(gpus)) <= room

    low, high = 0, _layers(header)
    if fits(high + 1):  # needs less work space than with a layer on the CPU
        return high + 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def settled(
    header: GgufHeader,
    params: ModelParams,
    n_ctx_train: int,
    place: Place,
    room: int | None,
    gpus: Sequence[Gpu] = (),
) -> ModelParams:
    """The settings with a number in place of each "auto".

    Layers come first: as many as fit a GPU with a context of 4,096 tokens. Then comes the longest context that fits with
    these layers, so that a longer context never drives layers from the GPU.

    Args:
        header: of the model's file.
        params: load-time settings.
        n_ctx_train: the context that the model was trained with; 0 if its file does not say.
        place: the backend.
        room: bytes that the model may take beside GPUs, nothing of them kept back any more; None if nobody knows.
        gpus: those that there are.
    """
    layers = params.asked_gpu_layers
    if params.n_gpu_layers == AUTO:
        layers = largest_layers(header, params, n_ctx_train, gpus)
    params = replace(params, n_gpu_layers=layers)
    if params.n_ctx != AUTO:
        return params
    if room is None or not is_causal(header):
        return replace(params, n_ctx=0)
    most = min(int(n_ctx_train), MAX_N_CTX) if n_ctx_train > 0 else _UNKNOWN
    on_gpus = sum(max(0, gpu.free - spare(gpu.free)) for gpu in gpus) if layers else 0

    def fits(n_ctx: int) -> bool:
        need = need_of(header, params, place, n_ctx)
        if need is None:
            return n_ctx <= _BASE
        if not gpus or not layers:
            return need.total <= room
        if gpu_need(header, params, n_ctx, layers, len(gpus)) > on_gpus:
            return False
        return need.total - sum(gpu_share(header, params, n_ctx, layers)) <= room

    return replace(params, n_ctx=max(min(place.least, most), longest_context(most, fits)))
