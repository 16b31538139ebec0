"""What architectures are made of: sizes, tensors, and the parts that many have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Architecture",
    "Kind",
    "Metadata",
    "Shape",
    "Tensor",
    "attention",
    "common",
    "feed_forward",
    "norm",
]

Kind = Literal["matrix", "embedding", "output", "norm", "bias", "plain", "decay"]
"""``matrix``, ``embedding`` and ``output`` are stored in the model's quantised format, the rest as f32."""

Metadata = dict[str, bool | int | float | list[int] | list[str]]
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
    labels: tuple[str, ...] = ()

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
    """What a GGUF file of this architecture contains.

    Attributes:
        metadata: the keys that it needs.
        layer: the tensors of one layer.
        output_norm: name of the norm after the last layer, or None.
        more: further tensors.
        has_output: whether it makes logits; encoders do not.
    """

    metadata: Callable[[Shape], Metadata]
    layer: Callable[[Shape, int], Iterator[Tensor]]
    output_norm: str | None = "output_norm"
    more: Callable[[Shape], Iterator[Tensor]] = lambda shape: iter(())
    has_output: bool = True


def common(shape: Shape) -> Metadata:
    """The keys that all have."""
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


def attention(
    shape: Shape, at: str, *, bias: bool = False, norms: bool = False
) -> Iterator[Tensor]:
    """Q, K, V and output of one layer."""
    for name, width in (("q", shape.n_embd), ("k", shape.n_embd_kv), ("v", shape.n_embd_kv)):
        yield Tensor(f"{at}attn_{name}.weight", (width, shape.n_embd), "matrix")
        if bias:
            yield Tensor(f"{at}attn_{name}.bias", (width,), "bias")
        if norms and name != "v":
            yield Tensor(f"{at}attn_{name}_norm.weight", (shape.n_embd_head,), "norm")
    yield Tensor(f"{at}attn_output.weight", (shape.n_embd, shape.n_embd), "matrix")


def feed_forward(shape: Shape, at: str) -> Iterator[Tensor]:
    """A gated one, with its norm."""
    yield Tensor(f"{at}ffn_norm.weight", (shape.n_embd,), "norm")
    yield Tensor(f"{at}ffn_gate.weight", (shape.n_ff, shape.n_embd), "matrix")
    yield Tensor(f"{at}ffn_up.weight", (shape.n_ff, shape.n_embd), "matrix")
    yield Tensor(f"{at}ffn_down.weight", (shape.n_embd, shape.n_ff), "matrix")


def norm(name: str, width: int) -> Iterator[Tensor]:
    """With weight and bias."""
    yield Tensor(f"{name}.weight", (width,), "norm")
    yield Tensor(f"{name}.bias", (width,), "bias")
