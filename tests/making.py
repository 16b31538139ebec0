"""Small random models that differ from one another in one thing."""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llama_bridge.models.source import open_model

_RANK = 4  # LLAMA_POOLING_TYPE_RANK
MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Writes a model, once for each set of ``write_model``'s arguments."""
    from tools.random_model import TINY, write_model  # numpy: not in a page

    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(**changes: Any) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.gguf"
        arguments: dict[str, Any] = TINY | {"seed": 3} | changes
        write_model(path, **arguments)
        return path

    return make


def model_with_nan(path: Path, logits: str) -> Path:
    """A random model whose logits are NaN: ``"all"`` of them, or ``"one"``. Its weights are finite, but too large."""
    from tools.random_model import TINY, write_model  # numpy: not in a page

    from .gguf_editing import Gguf

    write_model(path, **TINY)
    model = Gguf(path)
    norm = model.tensors["blk.0.attn_norm.weight" if logits == "all" else "output_norm.weight"]
    norm.data = struct.pack("<f", 3e38 if logits == "all" else 10) * norm.shape[0]
    if logits == "one":
        output = model.tensors["output.weight"]
        width, rows = output.shape
        one = struct.pack("<f", 3e38) * width  # inf less inf
        output.type, output.data = 0, bytes(4 * width * 300) + one + bytes(4 * width * (rows - 301))
    return model.write(path)


def embedding_model(path: Path, pooling: int | None = 1, n_ctx: int = 64) -> Path:
    """A small BERT with random weights; its pooling as llama.cpp's number (4, with a head, makes it a reranker), or None.

    Needs nothing that a page lacks.
    """
    from .gguf_editing import EditedTensor, Gguf

    model = Gguf(open_model("demo").path)
    model.rename("bert")
    width, layers = 32, 1
    for key, value in (
        ("embedding_length", width),
        ("context_length", n_ctx),
        ("block_count", layers),
    ):
        model.set(f"bert.{key}", value)
    model.set("bert.feed_forward_length", 2 * width)
    for key in ("head_count", "head_count_kv"):
        model.set(f"bert.attention.{key}", 2)
    model.set("bert.attention.layer_norm_epsilon", 1e-12, 6)
    model.set("bert.attention.causal", False, 7)
    model.set("tokenizer.ggml.token_type_count", 2)
    if pooling is not None:
        model.set("bert.pooling_type", pooling)
    for key in [key for key in model.metadata if key.startswith("bert.rope")]:
        del model.metadata[key]
    shapes = {
        "token_embd.weight": [width, len(model.words())],
        "token_types.weight": [width, 2],
        "position_embd.weight": [width, n_ctx],
        "token_embd_norm.weight": [width],
        "token_embd_norm.bias": [width],
    }
    for name, rows in (
        ("attn_q", width),
        ("attn_k", width),
        ("attn_v", width),
        ("attn_output", width),
    ):
        shapes |= {f"blk.0.{name}.weight": [width, rows], f"blk.0.{name}.bias": [rows]}
    for name in ("attn_output_norm", "layer_output_norm"):
        shapes |= {f"blk.0.{name}.weight": [width], f"blk.0.{name}.bias": [width]}
    shapes |= {"blk.0.ffn_up.weight": [width, 2 * width], "blk.0.ffn_up.bias": [2 * width]}
    shapes |= {"blk.0.ffn_down.weight": [2 * width, width], "blk.0.ffn_down.bias": [width]}
    if pooling == _RANK:
        shapes |= {"cls.weight": [width, width], "cls.bias": [width]}
        shapes |= {"cls.output.weight": [width, 1], "cls.output.bias": [1]}
    draw = random.Random(5).gauss
    model.tensors = {
        name: EditedTensor(
            name, shape, 0, array("f", (draw(0, 0.4) for _ in range(math.prod(shape)))).tobytes()
        )
        for name, shape in shapes.items()
    }
    return model.write(path)


def diffusion_model(path: Path) -> Path:
    """The demo model, said to be one that diffuses."""
    from .gguf_editing import Gguf

    model = Gguf(open_model("demo").path)
    model.rename("llada")
    return model.write(path)
