"""How much memory a loaded model takes, computed from its header: weights, cache and work space.

The rules are those of llama.cpp's CPU backend, and of its CUDA backend in :func:`gpu_work`. The first are compared with what llama.cpp itself reserves, for seven kinds of models, in
``tests/native/test_memory_need.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..params import KvType
from .gguf import GgufHeader
from .memory import MOST_LAYERS, kv_bytes_per_layer

__all__ = ["CELLS", "MemoryNeed", "cache_by_layer", "gpu_work", "memory_need"]

CELLS = 256
"""A cache has a multiple of so many cells."""
_F32 = 4

_WINDOWED = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gemma4": 6,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "plamo3": 8,
}
"""Of so many layers one has a full cache; the others have one of the window's length."""
_LINEAR = ("qwen35", "qwen35moe", "qwen3next")
"""Most of their layers keep a running state instead of keys and values."""
_GEMMA3N_OWN = 20
"""So many layers have a cache of their own; llama.cpp does not ask the file."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a loaded model takes.

    Attributes:
        weights: its tensors.
        cache: the KV cache, or the state of a recurrent model.
        work: space to compute one batch in.
    """

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.work


def memory_need(
    header: GgufHeader,
    n_ctx: int,
    *,
    at_once: int = 512,
    outputs: int | None = None,
    type_k: KvType = "f16",
    type_v: KvType = "f16",
    flash_attn: bool = True,
    n_parallel: int = 1,
) -> MemoryNeed | None:
    """What a model needs, or None for an architecture whose cache is not known.

    Args:
        header: of the model's file.
        n_ctx: tokens of context.
        at_once: tokens that are computed at once.
        outputs: of how many of them there is room for logits, if that is not fewer than one of each sequence; None of all.
        type_k, type_v, flash_attn, n_parallel: as in :class:`~llama_bridge.ModelParams`.
    """
    layers = cache_by_layer(
        header, n_ctx, at_once=at_once, type_k=type_k, type_v=type_v, n_parallel=n_parallel
    )
    if layers is None:
        return None
    weights = sum(tensor.n_bytes or 0 for tensor in header.tensors)
    full, short = _cells(header, n_ctx, at_once, n_parallel)
    kept = at_once if outputs is None else min(max(outputs, n_parallel), at_once)
    work = _work(header, full, short, at_once, kept, flash_attn)
    logits = n_parallel * header.n_vocab
    return MemoryNeed(weights, int(sum(layers)), _F32 * max(0, work + logits))


def gpu_work(
    header: GgufHeader,
    n_ctx: int,
    on_cpu: int,
    *,
    at_once: int = 512,
    type_k: KvType = "f16",
    type_v: KvType = "f16",
    flash_attn: bool = True,
    n_parallel: int = 1,
) -> int | None:
    """The most bytes of work space on a GPU, or None for an architecture whose cache is not known.

    It is more than the CPU's. Fused attention reads a cache of another type than f16 from a copy of it in f16, of one layer
    at a time. Layers that stay with the CPU are computed on the GPU all the same for a long prompt, so it has a matrix of
    theirs at a time, and up to three halves of a layer's cache. ``tests/native/test_gpu_memory.py`` has what was measured.

    Args:
        header, n_ctx, at_once, type_k, type_v, flash_attn, n_parallel: as in :func:`memory_need`.
        on_cpu: how many layers, the first ones, stay with the CPU.
    """
    need = memory_need(
        header,
        n_ctx,
        at_once=at_once,
        type_k=type_k,
        type_v=type_v,
        flash_attn=flash_attn,
        n_parallel=n_parallel,
    )
    layers = cache_by_layer(
        header, n_ctx, at_once=at_once, type_k=type_k, type_v=type_v, n_parallel=n_parallel
    )
    if need is None or not layers:
        return None
    work = need.work
    n_copied = sum(kind != "f16" for kind in (type_k, type_v))
    if flash_attn and n_copied and kv_bytes_per_layer(header) is not None:
        halves = cache_by_layer(header, n_ctx, at_once=at_once, n_parallel=n_parallel)
        copies = max(halves or [0.0]) / 2 * n_copied
        width = header.number(f"{header.architecture}.embedding_length")
        cells = sum(_cells(header, n_ctx, at_once, n_parallel))
        attention = at_once * (4 * width + cells // 2)
        work = max(work, _F32 * attention + int(copies))
    if on_cpu > 0:
        matrices = (t.n_bytes or 0 for t in header.tensors if t.name.startswith("blk."))
        work += int(1.5 * max(layers)) + max(matrices, default=0)
    return work


def cache_by_layer(
    header: GgufHeader,
    n_ctx: int,
    *,
    at_once: int = 512,
    type_k: KvType = "f16",
    type_v: KvType = "f16",
    n_parallel: int = 1,
) -> list[float] | None:
    """Bytes of each layer's cache or state, or None for an architecture whose cache is not known.

    Sequences share the cells of a full cache. Each has its own running states, and its own window of a cache that has the
    last tokens only.
    """
    arch = header.architecture
    if arch == "mamba":
        n_layers = header.number(f"{arch}.block_count")
        state = float(_mamba_state(header)) * n_parallel
        return [state] * n_layers if 0 < n_layers <= MOST_LAYERS and state >= 0 else None
    layers = kv_bytes_per_layer(header, type_k, type_v)
    if layers is None:
        return None
    full, short = _cells(header, n_ctx, at_once, n_parallel)
    length = header.number(f"{arch}.attention.key_length")
    narrow = header.number(f"{arch}.attention.key_length_swa", length) / length if length else 1.0
    own = _layers_with_own_cache(header)
    found: list[float] = []
    for i, per_token in enumerate(layers):
        size = per_token * full
        if i >= own:
            size = 0.0
        elif arch in _LINEAR and _is_linear(header, i):
            size = _linear_state(header) * n_parallel
        elif short and _is_windowed(header, i):
            size = per_token * narrow * short
        if not per_token:  # a convolution: it keeps the last few inputs
            kept = max(0, header.number(f"{arch}.shortconv.l_cache") - 1)
            size = kept * header.number(f"{arch}.embedding_length") * _F32 * n_parallel
        found.append(size)
    return found if min(found, default=-1) >= 0 else None


def _cells(header: GgufHeader, n_ctx: int, at_once: int, n_parallel: int) -> tuple[int, int]:
    """Cells of a full cache, and of one that has the last tokens only; 0 if no layer has such a one."""
    arch = header.architecture
    full = _padded(n_ctx)
    window = max(0, header.number(f"{arch}.attention.sliding_window"))
    if not window or arch not in _WINDOWED:
        return full, 0
    return full, min(full, _padded(window * n_parallel + at_once))


def _padded(n: int) -> int:
    return -(-n // CELLS) * CELLS


def _is_windowed(header: GgufHeader, layer: int) -> bool:
    """Whether a layer sees the last tokens only, in an architecture that has such layers."""
    arch = header.architecture
    pattern = header.metadata.get(f"{arch}.attention.sliding_window_pattern", _WINDOWED[arch])
    if isinstance(pattern, list):
        return layer < len(pattern) and bool(pattern[layer])
    period = pattern if isinstance(pattern, int) and pattern > 0 else _WINDOWED[arch]
    return layer % period < period - 1


def _layers_with_own_cache(header: GgufHeader) -> int:
    """The layers after so many use the cache of another, or only guess ahead and have none."""
    arch = header.architecture
    n_layers = header.number(f"{arch}.block_count")
    if arch == "gemma3n":
        return min(n_layers, _GEMMA3N_OWN)
    name = "attention.shared_kv_layers" if arch == "gemma4" else "nextn_predict_layers"
    return n_layers - max(0, header.number(f"{arch}.{name}"))


def _is_linear(header: GgufHeader, layer: int) -> bool:
    """Whether a layer keeps a running state, in an architecture that has such layers."""
    arch = header.architecture
    listed = header.metadata.get(f"{arch}.attention.recurrent_layers")
    if isinstance(listed, list):
        return layer < len(listed) and bool(listed[layer])
    return (layer + 1) % max(1, header.number(f"{arch}.full_attention_interval", 4)) != 0


def _linear_state(header: GgufHeader) -> int:
    """Bytes of one layer's running state: the last inputs of a convolution, and a matrix for each head."""
    inner, state, groups, kernel = (
        header.number(f"{header.architecture}.ssm.{name}")
        for name in ("inner_size", "state_size", "group_count", "conv_kernel")
    )
    return _F32 * (max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner)


def _mamba_state(header: GgufHeader) -> int:
    """Bytes of one layer's running state."""
    arch = header.architecture
    inner = header.number(f"{arch}.ssm.inner_size")
    kept = header.number(f"{arch}.ssm.conv_kernel") - 1 + header.number(f"{arch}.ssm.state_size")
    return kept * inner * _F32


def _work(
    header: GgufHeader, full: int, short: int, at_once: int, outputs: int, flash_attn: bool
) -> int:
    """Floats for a batch in the widest place: the logits, the feed-forward network, or attention."""
    arch = header.architecture
    width = header.number(f"{arch}.embedding_length")
    hidden = header.number(f"{arch}.feed_forward_length")
    heads = header.number(f"{arch}.attention.head_count")
    logits = outputs * header.n_vocab + 2 * at_once * width
    if heads < 1:
        return logits
    # The mask has two bytes a cell with flash attention, otherwise four.
    if flash_attn:
        return max(logits, at_once * (3 * hidden + 4 * width + (full + short) // 2))
    kv_width = header.number(f"{arch}.attention.head_count_kv", heads) * (width // heads)
    attention = full * (heads + 1) + 5 * width + 2 * kv_width
    return max(logits, at_once * max(3 * hidden + 4 * width + full + short, attention))
