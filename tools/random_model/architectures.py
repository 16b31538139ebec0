"""The metadata and tensors of each architecture; names and shapes are those of llama.cpp's ``src/models/``."""

from __future__ import annotations

from collections.abc import Iterator

from . import decoders
from .layers import Architecture, Metadata, Shape, Tensor, attention, common, feed_forward, norm

__all__ = ["ARCHITECTURES"]


def _llama(shape: Shape, i: int, *, bias: bool = False, norms: bool = False) -> Iterator[Tensor]:
    at = f"blk.{i}."
    yield Tensor(f"{at}attn_norm.weight", (shape.n_embd,), "norm")
    yield from attention(shape, at, bias=bias, norms=norms)
    yield from feed_forward(shape, at)


def _qwen2(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _llama(shape, i, bias=True)


def _qwen2vl_metadata(shape: Shape) -> Metadata:
    half = (
        shape.n_embd_head // 2
    )  # a position has several parts, and each rotates a part of the head
    return common(shape) | {
        "rope.dimension_sections": [half - 2 * (half // 3), half // 3, half // 3, 0]
    }


def _gemma3_metadata(shape: Shape) -> Metadata:
    # A real Gemma has five sliding layers for each full one; a small model needs both kinds in its first layers.
    return common(shape) | {
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
    return common(shape) | {
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
    return common(shape) | {"attention.head_count_kv": heads, "shortconv.l_cache": _SHORT_CONV}


def _lfm2(shape: Shape, i: int) -> Iterator[Tensor]:
    at, n = f"blk.{i}.", shape.n_embd
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    if _is_attention(i):
        yield from attention(shape, at, norms=True)
    else:
        yield Tensor(f"{at}shortconv.conv.weight", (n, _SHORT_CONV), "plain")
        yield Tensor(f"{at}shortconv.in_proj.weight", (3 * n, n), "matrix")
        yield Tensor(f"{at}shortconv.out_proj.weight", (n, n), "matrix")
    yield from feed_forward(shape, at)


def _encoder_metadata(shape: Shape) -> Metadata:
    return common(shape) | {
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
    }


def _bert_begin(shape: Shape, *, positions: bool = False, types: int = 2) -> Iterator[Tensor]:
    if positions:
        yield Tensor("position_embd.weight", (shape.n_ctx_train, shape.n_embd), "plain")
    yield Tensor("token_types.weight", (types, shape.n_embd), "plain")
    yield from norm("token_embd_norm", shape.n_embd)


def _classifier(shape: Shape) -> Iterator[Tensor]:
    """A head that scores, as rerankers have one."""
    n = shape.n_embd
    if shape.labels:
        yield Tensor("cls.weight", (n, n), "plain")
        yield Tensor("cls.bias", (n,), "bias")
        yield Tensor("cls.output.weight", (len(shape.labels), n), "plain")
        yield Tensor("cls.output.bias", (len(shape.labels),), "bias")


def _bert_more(shape: Shape) -> Iterator[Tensor]:
    yield from _bert_begin(shape, positions=True)
    yield from _classifier(shape)


def _bert(shape: Shape, i: int, *, gate: bool = False, bias: bool = True) -> Iterator[Tensor]:
    at, n = f"blk.{i}.", shape.n_embd
    yield from attention(shape, at, bias=bias)
    if bias:
        yield Tensor(f"{at}attn_output.bias", (n,), "bias")
    yield from norm(f"{at}attn_output_norm", n)
    yield Tensor(f"{at}ffn_up.weight", (shape.n_ff, n), "matrix")
    if gate:
        yield Tensor(f"{at}ffn_gate.weight", (shape.n_ff, n), "matrix")
    if bias and not gate:
        yield Tensor(f"{at}ffn_up.bias", (shape.n_ff,), "bias")
    yield Tensor(f"{at}ffn_down.weight", (n, shape.n_ff), "matrix")
    if bias:
        yield Tensor(f"{at}ffn_down.bias", (n,), "bias")
    yield from norm(f"{at}layer_output_norm", n)


def _nomic_bert(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _bert(shape, i, gate=True, bias=False)


def _jina_bert(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _bert(shape, i, gate=True)


def _modern_bert_metadata(shape: Shape) -> Metadata:
    return _encoder_metadata(shape) | {
        "attention.sliding_window": shape.n_swa,
        "attention.sliding_window_pattern": 2,
        "rope.freq_base_swa": 10_000.0,
    }


def _modern_bert_more(shape: Shape) -> Iterator[Tensor]:
    yield Tensor("token_embd_norm.weight", (shape.n_embd,), "norm")
    if shape.labels:
        yield Tensor("cls.weight", (shape.n_embd, shape.n_embd), "plain")
        yield Tensor("cls.norm.weight", (shape.n_embd,), "norm")
        yield Tensor("cls.output.weight", (len(shape.labels), shape.n_embd), "plain")


def _modern_bert(shape: Shape, i: int) -> Iterator[Tensor]:
    at, n = f"blk.{i}.", shape.n_embd
    if i:
        yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}attn_qkv.weight", (3 * n, n), "matrix")
    yield Tensor(f"{at}attn_output.weight", (n, n), "matrix")
    yield Tensor(f"{at}ffn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}ffn_up.weight", (2 * shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_down.weight", (n, shape.n_ff), "matrix")


def _t5_metadata(shape: Shape) -> Metadata:
    return common(shape) | {"attention.relative_buckets_count": 32}


def _t5_encoder(shape: Shape, i: int) -> Iterator[Tensor]:
    at, n = f"enc.blk.{i}.", shape.n_embd
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    if i == 0:
        yield Tensor(f"{at}attn_rel_b.weight", (32, shape.n_head), "plain")
    for name in ("q", "k", "v"):
        width = n if name == "q" else shape.n_embd_kv
        yield Tensor(f"{at}attn_{name}.weight", (width, n), "matrix")
    yield Tensor(f"{at}attn_o.weight", (n, n), "matrix")
    yield from feed_forward(shape, at)


def _qwen3_more(shape: Shape) -> Iterator[Tensor]:
    if shape.labels:
        yield Tensor("cls.output.weight", (len(shape.labels), shape.n_embd), "plain")


def _qwen3(shape: Shape, i: int) -> Iterator[Tensor]:
    yield from _llama(shape, i, norms=True)


ARCHITECTURES = {
    "llama": Architecture(common, _llama),
    "qwen2": Architecture(common, _qwen2),
    "qwen2vl": Architecture(_qwen2vl_metadata, _qwen2),
    "gemma3": Architecture(_gemma3_metadata, _gemma3),
    "mamba": Architecture(_mamba_metadata, _mamba),
    "lfm2": Architecture(_lfm2_metadata, _lfm2, output_norm="token_embd_norm"),
    "gemma2": Architecture(decoders.gemma2_metadata, decoders.gemma2),
    "gpt2": Architecture(decoders.gpt2_metadata, decoders.gpt2, more=decoders.gpt2_more),
    "mamba2": Architecture(decoders.mamba2_metadata, decoders.mamba2),
    "phi3": Architecture(common, decoders.phi3),
    "qwen3moe": Architecture(decoders.qwen3moe_metadata, decoders.qwen3moe),
    "rwkv7": Architecture(decoders.rwkv7_metadata, decoders.rwkv7, more=decoders.rwkv7_more),
    "qwen3": Architecture(common, _qwen3, more=_qwen3_more),
    "bert": Architecture(_encoder_metadata, _bert, None, _bert_more, has_output=False),
    "nomic-bert": Architecture(_encoder_metadata, _nomic_bert, None, _bert_begin, has_output=False),
    "jina-bert-v2": Architecture(
        _encoder_metadata, _jina_bert, None, _bert_begin, has_output=False
    ),
    "modern-bert": Architecture(
        _modern_bert_metadata, _modern_bert, more=_modern_bert_more, has_output=False
    ),
    "gemma-embedding": Architecture(_gemma3_metadata, _gemma3, has_output=False),
    "t5encoder": Architecture(_t5_metadata, _t5_encoder, "enc.output_norm", has_output=False),
}
"""One or more for each kind of memory: dense, dense, dense with M-RoPE, sliding window, recurrent, hybrid; then a reranker's,
and models that only embed: they have none."""
