"""The network: a small `llama` in plain PyTorch, laid out as llama.cpp expects it.

Everything that llama.cpp fixes for the `llama` architecture is fixed here too, so that the export
is a plain copy of tensors: RMSNorm before each block, rotary positions on *neighbouring* pairs
(2i, 2i+1), SwiGLU, no biases, and the output matrix tied to the embedding (it is then simply left
out of the GGUF). Every row length is a multiple of 32, the block size of Q8_0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; what `export.py` writes into the GGUF metadata."""

    vocab: int
    layers: int = 5
    width: int = 192
    heads: int = 6
    hidden: int = 512
    context: int = 1024
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain, computed in float32 whatever autocast does."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normed `x`, same shape."""
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


class Block(nn.Module):
    """One transformer layer; attribute names are the GGUF tensor names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.hidden
        self.heads = shape.heads
        self.attn_norm = RMSNorm(width, shape.norm_eps)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = RMSNorm(width, shape.norm_eps)
        self.ffn_gate = nn.Linear(width, hidden, bias=False)
        self.ffn_up = nn.Linear(width, hidden, bias=False)
        self.ffn_down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`x` (rows, length, width) plus what attention and the feed-forward add to it."""
        rows, length, width = x.shape
        split = (rows, length, self.heads, width // self.heads)
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(split), cos, sin).transpose(1, 2)
        k = rotate(self.attn_k(h).view(split), cos, sin).transpose(1, 2)
        v = self.attn_v(h).view(split).transpose(1, 2)
        mixed = attend(q, k, v)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(rows, length, width))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, written out: several times faster than the fused one at these sizes."""
    length = q.shape[-2]
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype) @ v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs: llama.cpp's `LLAMA_ROPE_TYPE_NORM`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2)


class DemoModel(nn.Module):
    """The whole network: token ids (rows, length) to logits (rows, length, vocab)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = RMSNorm(shape.width, shape.norm_eps)
        powers = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-powers)
        self.register_buffer("cos", angles.cos()[:, None, :], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None, :], persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        # Copying needs the token itself to outweigh what the layers write beside it, so embeddings
        # start large; the gain of the last norm keeps the tied output's logits small all the same.
        # Residual writers start small so that depth does not raise the variance.
        nn.init.normal_(self.token_embd.weight, std=0.5)
        nn.init.constant_(self.output_norm.weight, 0.1)
        for name, weight in self.blk.named_parameters():
            if weight.dim() == 2:
                std = weight.shape[1] ** -0.5
                if name.endswith(("attn_output.weight", "ffn_down.weight")):
                    std /= (2 * self.shape.layers) ** 0.5
                nn.init.normal_(weight, std=std)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Last layer's normed state; split off so that the loss can skip untrained positions."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary, with the embedding as output matrix."""
        return F.linear(hidden, self.token_embd.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits at every position."""
        return self.logits(self.hidden(tokens))
