"""How much memory a KV cache takes, computed from a model's header."""

from __future__ import annotations

from ..params import KvType
from .ggml_types import GGML_TYPES, KV_TYPES
from .gguf import ArrayRef, GgufHeader, Value

__all__ = ["MOST_LAYERS", "kv_bytes_per_layer", "kv_bytes_per_token", "least_kv_bytes_per_token"]

MOST_LAYERS = 4096
"""A file that claims more is no model: llama.cpp loads at most 512."""
# Their layers keep one running state instead of a key and a value per token.
_RECURRENT = ("mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7")
_NOT_DENSE = (
    "attention.kv_lora_rank",
    "attention.shared_kv_layers",
    "attention.sliding_window",
    "full_attention_interval",
    "shortconv.l_cache",
    "ssm.conv_kernel",
    "ssm.state_size",
    "wkv.head_size",
)
"""Keys of models whose caches do not hold one key and value per layer and token."""


def kv_bytes_per_token(
    header: GgufHeader, type_k: KvType = "f16", type_v: KvType = "f16"
) -> int | None:
    """Bytes that one token takes in a KV cache, or None if unknown.

    Layers with a sliding window count in full.
    """
    layers = kv_bytes_per_layer(header, type_k, type_v)
    return None if layers is None else int(sum(layers))


def kv_bytes_per_layer(
    header: GgufHeader, type_k: KvType = "f16", type_v: KvType = "f16"
) -> list[float] | None:
    """Bytes that one token takes in the cache of each layer, or None if unknown.

    That is a key and a value for each KV head, with the lengths of llama.cpp's ``llama_hparams``: the head's own, or its
    share of the embedding.
    """
    arch = header.architecture
    heads = header.metadata.get(f"{arch}.attention.head_count")
    n_layers = header.number(f"{arch}.block_count")
    if arch in _RECURRENT or not 0 < n_layers <= MOST_LAYERS or isinstance(heads, ArrayRef):
        return None
    if header.number(f"{arch}.attention.kv_lora_rank"):
        return None  # latent attention: what is cached depends on the engine
    n_heads = max(_whole_numbers(heads), default=0)
    if n_heads < 1:
        return None
    kv_heads = header.metadata.get(f"{arch}.attention.head_count_kv", heads)
    if isinstance(kv_heads, ArrayRef):
        return None
    listed = _whole_numbers(kv_heads)
    each = listed if isinstance(kv_heads, list) else listed * n_layers
    head = header.number(f"{arch}.embedding_length") // n_heads
    size = _row_bytes(type_k, header.number(f"{arch}.attention.key_length", head))
    size += _row_bytes(type_v, header.number(f"{arch}.attention.value_length", head))
    return [n * size for n in each]


def least_kv_bytes_per_token(header: GgufHeader, type_k: KvType, type_v: KvType) -> int:
    """A lower bound for the same; 0 if the cache may be smaller than the simple rule says."""
    if any(f"{header.architecture}.{key}" in header.metadata for key in _NOT_DENSE):
        return 0
    return kv_bytes_per_token(header, type_k, type_v) or 0


def _row_bytes(kind: KvType, n: int) -> float:
    """Bytes of one head, possibly part of a block that the next head completes."""
    form = GGML_TYPES[KV_TYPES[kind]]
    return n * form.n_bytes / form.block


def _whole_numbers(value: Value | None) -> list[int]:
    """One number for all layers, or one per layer."""
    values = value if isinstance(value, list) else [value]
    return [n for n in values if isinstance(n, int)]
