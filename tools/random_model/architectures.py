"""The metadata and tensors of each architecture; names and shapes are those of llama.cpp's ``src/models/``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["ARCHITECTURES", "Architecture", "Kind", "Metadata", "Shape", "Tensor"]

Kind = Literal["matrix", "embedding", "output", "norm", "bias", "plain", "decay"]
"""``matrix``, ``embedding`` and ``output`` are stored in the model's quantised format, the rest as f32."""

Metadata = dict[str, int | float | list[int]]
"""Keys without the architecture's prefix."""


@dataclass(frozen=True)
class Shape:
    """The size of a model. See :func:`tools.random_model.write_model`."""

    n_vocab: int
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_ctx_train: int
    n_swa: int

    @property
    def n_embd_head(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def n_embd_kv(self) -> int:
        """Width of K and of V in one layer."""
        return self.n_embd_head * self.n_head_kv


@dataclass(frozen=True)
class Tensor:
    """One tensor; ``shape`` is rows and columns as in numpy, the reverse of ggml's order."""

    name: str
    shape: tuple[int, ...]
    kind: Kind


@dataclass(frozen=True)
class Architecture:
    """What a GGUF file of this architecture contains between the embedding and the output matrix."""

    metadata: Callable[[Shape], Metadata]
    layer: Callable[[Shape, int], Iterator[Tensor]]
    output_norm: str = "output_norm"


def _common(shape: Shape) -> Metadata:
    return {
        "block_count": shape.n_layer,
        "context_length": shape.n_ctx_train,
        "embedding_length": shape.n_embd,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 10_000.0,
        "vocab_size": shape.n_vocab,
    }


def _attention(
    shape: Shape, at: str, *, bias: bool = False, norms: bool = False
) -> Iterator[Tensor]:
    for name, width in (("q", shape.n_embd), ("k", shape.n_embd_kv), ("v", shape.n_embd_kv)):
        yield Tensor(f"{at}attn_{name}.weight", (width, shape.n_embd), "matrix")
        if bias:
            yield Tensor(f"{at}attn_{name}.bias", (width,), "bias")
        if norms and name != "v":
            yield Tensor(f"{at}attn_{name}_norm.weight", (shape.n_embd_head,), "norm")
    yield Tensor(f"{at}attn_output.weight", (shape.n_embd, shape.n_embd), "matrix")


def _feed_forward(shape: Shape, at: str) -> Iterator[Tensor]:
    yield Tensor(f"{at}ffn_norm.weight", (shape.n_embd,), "norm")
    yield Tensor(f"{at}ffn_gate.weight", (shape.n_ff, shape.n_embd), "matrix")
    yield Tensor(f"{at}ffn_up.weight", (shape.n_ff, shape.n_embd), "matrix")
    yield Tensor(f"{at}ffn_down.weight", (shape.n_embd, shape.n_ff), "matrix")


def _llama(shape: Shape, i: int, *, bias: bool = False, norms: bool = False) -> Iterator[Tensor]:
    at = f"blk.{i}."
    yield Tensor(f"{at}attn_norm.weight", (shape.n_embd,), "norm")
    yield from _attention(shape, at, bias=bias, norms=norms)
    yield from _feed_forward(shape, at)


def _qwen2(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _llama(shape, i, bias=True)


def _qwen2vl_metadata(shape: Shape) -> Metadata:
    half = (
        shape.n_embd_head // 2
    )  # a position has several parts, and each rotates a part of the head
    return _common(shape) | {
        "rope.dimension_sections": [half - 2 * (half // 3), half // 3, half // 3, 0]
    }


def _gemma3_metadata(shape: Shape) -> Metadata:
    # A real Gemma has five sliding layers for each full one; a small model needs both kinds in its first layers.
    return _common(shape) | {
        "attention.sliding_window": shape.n_swa,
        "attention.sliding_window_pattern": 2,
        "attention.key_length": shape.n_embd_head,
        "attention.value_length": shape.n_embd_head,
    }


def _gemma3(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _llama(shape, i, norms=True)
    yield Tensor(f"blk.{i}.post_attention_norm.weight", (shape.n_embd,), "norm")
    yield Tensor(f"blk.{i}.post_ffw_norm.weight", (shape.n_embd,), "norm")


_SSM_CONV, _SSM_STATE = 4, 16


def _mamba_metadata(shape: Shape) -> Metadata:
    return _common(shape) | {
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
        "ssm.conv_kernel": _SSM_CONV,
        "ssm.inner_size": 2 * shape.n_embd,
        "ssm.state_size": _SSM_STATE,
        "ssm.time_step_rank": _time_step_rank(shape),
    }


def _time_step_rank(shape: Shape) -> int:
    return max(32, shape.n_embd // 16 // 32 * 32)  # whole quantisation blocks


def _mamba(shape: Shape, i: int) -> Iterator[Tensor]:
    at, inner, rank = f"blk.{i}.", 2 * shape.n_embd, _time_step_rank(shape)
    yield Tensor(f"{at}attn_norm.weight", (shape.n_embd,), "norm")
    yield Tensor(f"{at}ssm_in.weight", (2 * inner, shape.n_embd), "matrix")
    yield Tensor(f"{at}ssm_conv1d.weight", (inner, _SSM_CONV), "plain")
    yield Tensor(f"{at}ssm_conv1d.bias", (inner,), "bias")
    yield Tensor(f"{at}ssm_x.weight", (rank + 2 * _SSM_STATE, inner), "matrix")
    yield Tensor(f"{at}ssm_dt.weight", (inner, rank), "matrix")
    yield Tensor(f"{at}ssm_dt.bias", (inner,), "bias")
    yield Tensor(f"{at}ssm_a", (inner, _SSM_STATE), "decay")
    yield Tensor(f"{at}ssm_d", (inner,), "norm")
    yield Tensor(f"{at}ssm_out.weight", (shape.n_embd, inner), "matrix")


_SHORT_CONV = 3


def _is_attention(i: int) -> bool:
    return i % 2 == 1


def _lfm2_metadata(shape: Shape) -> Metadata:
    heads = [shape.n_head_kv * _is_attention(i) for i in range(shape.n_layer)]
    return _common(shape) | {"attention.head_count_kv": heads, "shortconv.l_cache": _SHORT_CONV}


def _lfm2(shape: Shape, i: int) -> Iterator[Tensor]:
    at, n = f"blk.{i}.", shape.n_embd
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    if _is_attention(i):
        yield from _attention(shape, at, norms=True)
    else:
        yield Tensor(f"{at}shortconv.conv.weight", (n, _SHORT_CONV), "plain")
        yield Tensor(f"{at}shortconv.in_proj.weight", (3 * n, n), "matrix")
        yield Tensor(f"{at}shortconv.out_proj.weight", (n, n), "matrix")
    yield from _feed_forward(shape, at)


ARCHITECTURES = {
    "llama": Architecture(_common, _llama),
    "qwen2": Architecture(_common, _qwen2),
    "qwen2vl": Architecture(_qwen2vl_metadata, _qwen2),
    "gemma3": Architecture(_gemma3_metadata, _gemma3),
    "mamba": Architecture(_mamba_metadata, _mamba),
    "lfm2": Architecture(_lfm2_metadata, _lfm2, output_norm="token_embd_norm"),
}
"""At least one for each kind of memory: dense (the third with M-RoPE), sliding window, recurrent, hybrid."""
