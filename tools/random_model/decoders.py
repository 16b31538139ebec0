"""More architectures that generate: what each has that the others have not."""

from __future__ import annotations

from collections.abc import Iterator

from .layers import Metadata, Shape, Tensor, attention, common, norm

__all__ = [
    "gemma2",
    "gemma2_metadata",
    "gpt2",
    "gpt2_metadata",
    "gpt2_more",
    "mamba2",
    "mamba2_metadata",
    "phi3",
    "qwen3moe",
    "qwen3moe_metadata",
    "rwkv7",
    "rwkv7_metadata",
    "rwkv7_more",
]

_EXPERTS, _EXPERTS_USED = 4, 2
_HEADS, _GROUPS, _STATE, _CONV = 4, 1, 16, 4
_RANK = 32
"""Of RWKV's small matrices."""


def gemma2_metadata(shape: Shape) -> Metadata:
    """Two kinds of attention, and caps on the logits."""
    return common(shape) | {
        "attention.sliding_window": shape.n_swa,
        "attention.key_length": shape.n_embd_head,
        "attention.value_length": shape.n_embd_head,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }


def gemma2(shape: Shape, i: int) -> Iterator[Tensor]:
    """Norms before and after each part."""
    at, n = f"blk.{i}.", shape.n_embd
    for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        yield Tensor(f"{at}{name}.weight", (n,), "norm")
    yield from attention(shape, at)
    yield Tensor(f"{at}ffn_gate.weight", (shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_up.weight", (shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_down.weight", (n, shape.n_ff), "matrix")


def phi3(shape: Shape, i: int) -> Iterator[Tensor]:
    """Q, K and V in one matrix, gate and up in one."""
    at, n = f"blk.{i}.", shape.n_embd
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}attn_qkv.weight", (n + 2 * shape.n_embd_kv, n), "matrix")
    yield Tensor(f"{at}attn_output.weight", (n, n), "matrix")
    yield Tensor(f"{at}ffn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}ffn_up.weight", (2 * shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_down.weight", (n, shape.n_ff), "matrix")


def gpt2_metadata(shape: Shape) -> Metadata:
    """Positions are learnt, not turned."""
    return common(shape) | {"attention.layer_norm_epsilon": 1e-5}


def gpt2_more(shape: Shape) -> Iterator[Tensor]:
    """A vector for each position."""
    yield Tensor("position_embd.weight", (shape.n_ctx_train, shape.n_embd), "plain")
    yield Tensor("output_norm.bias", (shape.n_embd,), "bias")


def gpt2(shape: Shape, i: int) -> Iterator[Tensor]:
    """A bias everywhere."""
    at, n, n_qkv = f"blk.{i}.", shape.n_embd, shape.n_embd + 2 * shape.n_embd_kv
    yield from norm(f"{at}attn_norm", n)
    yield from norm(f"{at}ffn_norm", n)
    for name, rows, columns in (
        ("attn_qkv", n_qkv, n),
        ("attn_output", n, n),
        ("ffn_up", shape.n_ff, n),
        ("ffn_down", n, shape.n_ff),
    ):
        yield Tensor(f"{at}{name}.weight", (rows, columns), "matrix")
        yield Tensor(f"{at}{name}.bias", (rows,), "bias")


def qwen3moe_metadata(shape: Shape) -> Metadata:
    """Some of several experts for each token."""
    return common(shape) | {
        "expert_count": _EXPERTS,
        "expert_used_count": _EXPERTS_USED,
        "expert_feed_forward_length": shape.n_ff,
    }


def qwen3moe(shape: Shape, i: int) -> Iterator[Tensor]:
    """The experts lie in one tensor."""
    at, n = f"blk.{i}.", shape.n_embd
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    yield from attention(shape, at, norms=True)
    yield Tensor(f"{at}ffn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}ffn_gate_inp.weight", (_EXPERTS, n), "plain")
    yield Tensor(f"{at}ffn_gate_exps.weight", (_EXPERTS, shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_up_exps.weight", (_EXPERTS, shape.n_ff, n), "matrix")
    yield Tensor(f"{at}ffn_down_exps.weight", (_EXPERTS, n, shape.n_ff), "matrix")


def mamba2_metadata(shape: Shape) -> Metadata:
    """A running state in heads and groups."""
    return common(shape) | {
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
        "ssm.conv_kernel": _CONV,
        "ssm.inner_size": 2 * shape.n_embd,
        "ssm.state_size": _STATE,
        "ssm.time_step_rank": _HEADS,
        "ssm.group_count": _GROUPS,
    }


def mamba2(shape: Shape, i: int) -> Iterator[Tensor]:
    """One matrix makes all that goes in."""
    at, n, inner = f"blk.{i}.", shape.n_embd, 2 * shape.n_embd
    wide = inner + 2 * _GROUPS * _STATE
    yield Tensor(f"{at}attn_norm.weight", (n,), "norm")
    yield Tensor(f"{at}ssm_in.weight", (inner + wide + _HEADS, n), "matrix")
    yield Tensor(f"{at}ssm_conv1d.weight", (wide, _CONV), "plain")
    yield Tensor(f"{at}ssm_conv1d.bias", (wide,), "bias")
    yield Tensor(f"{at}ssm_dt.bias", (_HEADS,), "bias")
    yield Tensor(f"{at}ssm_a", (_HEADS, 1), "decay")
    yield Tensor(f"{at}ssm_d", (_HEADS, 1), "norm")
    yield Tensor(f"{at}ssm_norm.weight", (_GROUPS, inner // _GROUPS), "norm")
    yield Tensor(f"{at}ssm_out.weight", (n, inner), "matrix")


def rwkv7_metadata(shape: Shape) -> Metadata:
    """No attention at all. Heads are those of real models: ggml computes no smaller ones."""
    return common(shape) | {
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
        "attention.layer_norm_epsilon": 1e-5,
        "wkv.head_size": 64,
        "attention.decay_lora_rank": _RANK,
        "attention.iclr_lora_rank": _RANK,
        "attention.value_residual_mix_lora_rank": _RANK,
        "attention.gate_lora_rank": _RANK,
    }


def rwkv7_more(shape: Shape) -> Iterator[Tensor]:
    """A norm of the embedding, which llama.cpp counts to the first layer."""
    yield from norm("token_embd_norm", shape.n_embd)
    yield Tensor("output_norm.bias", (shape.n_embd,), "bias")


def rwkv7(shape: Shape, i: int) -> Iterator[Tensor]:
    """Time mixing and channel mixing."""
    at, n = f"blk.{i}.", shape.n_embd
    for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        yield from norm(f"{at}{name}", n)
    for name in ("w", "a", "v"):
        yield Tensor(f"{at}time_mix_{name}0.weight", (n,), "bias")
    for name in ("w", "a", "v", "g"):
        yield Tensor(f"{at}time_mix_{name}1.weight", (_RANK, n), "matrix")
        yield Tensor(f"{at}time_mix_{name}2.weight", (n, _RANK), "matrix")
    yield Tensor(f"{at}time_mix_lerp_fused.weight", (6, 1, 1, n), "plain")
    for name in ("k_k", "k_a", "r_k"):
        yield Tensor(f"{at}time_mix_{name}.weight", (n,), "norm")
    for name in ("key", "value", "receptance", "output"):
        yield Tensor(f"{at}time_mix_{name}.weight", (n, n), "matrix")
    yield Tensor(f"{at}channel_mix_lerp_k.weight", (1, 1, n), "plain")
    yield Tensor(f"{at}channel_mix_key.weight", (shape.n_ff, n), "matrix")
    yield Tensor(f"{at}channel_mix_value.weight", (n, shape.n_ff), "matrix")
