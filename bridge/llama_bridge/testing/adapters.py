"""Writes small LoRA adapters with random weights, for tests."""

from __future__ import annotations

import math
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.source import ModelFile

if TYPE_CHECKING:
    from ..models.gguf import TensorInfo

__all__ = ["write_adapter"]

_F32, _STRING = 6, 8
_ALIGNMENT = 32
_TENSOR_F32 = 0
_EMBEDDING = "token_embd.weight"


def of_attention(tensor: TensorInfo) -> bool:
    """Whether a tensor is one of an attention's matrices."""
    return ".attn_" in tensor.name


def write_adapter(
    path: Path,
    model: ModelFile,
    *,
    name: str = "adapter",
    rank: int = 4,
    alpha: float = 8.0,
    strength: float = 0.25,
    seed: int = 0,
    changes: Callable[[TensorInfo], bool] = of_attention,
    architecture: str = "",
) -> Path:
    """Write an adapter for a model, in the form of llama.cpp's ``convert_lora_to_gguf.py``, with F32 matrices.

    Args:
        path: where.
        model: the model that it is for.
        name: what it is called.
        rank: of its matrices.
        alpha: its change is multiplied with alpha / rank.
        strength: how large its change is: about as large as what the model computes at 1.
        seed: of its weights.
        changes: which matrices of the model it changes.
        architecture: what it says that it is for; empty for the model's.
    """
    draw = random.Random(seed).gauss
    tensors: dict[str, tuple[tuple[int, ...], bytes]] = {}

    def add(name: str, shape: tuple[int, ...], spread: float) -> None:
        values = array("f", (draw(0, spread) for _ in range(math.prod(shape))))
        tensors[name] = shape, values.tobytes()

    power = strength * rank / alpha if alpha else strength
    for tensor in model.header.tensors:
        if len(tensor.shape) < 2 or not changes(tensor):
            continue
        columns, rows, *experts = tensor.shape
        if tensor.name == _EMBEDDING:  # A is looked up by token, and B turned
            add(f"{tensor.name}.lora_a", (rank, rows), 1.0)
            add(f"{tensor.name}.lora_b", (rank, columns), power * rank**-0.5)
        else:
            add(f"{tensor.name}.lora_a", (columns, rank, *experts), columns**-0.5)
            add(f"{tensor.name}.lora_b", (rank, rows, *experts), power * rank**-0.5)
    if not model.header.tensors:  # a model for tests, without weights
        add("blk.0.attn_q.weight.lora_a", (rank, rank), 1.0)
        add("blk.0.attn_q.weight.lora_b", (rank, rank), 1.0)
    texts = {
        "general.architecture": architecture or model.architecture,
        "general.type": "adapter",
        "general.name": name,
        "adapter.type": "lora",
    }
    pairs = [_text(key) + struct.pack("<I", _STRING) + _text(text) for key, text in texts.items()]
    pairs.append(_text("adapter.lora.alpha") + struct.pack("<If", _F32, alpha))
    return _write(path, pairs, tensors)


def _write(
    path: Path, pairs: list[bytes], tensors: dict[str, tuple[tuple[int, ...], bytes]]
) -> Path:
    rows: list[bytes] = []
    body = bytearray()
    for name, (shape, data) in tensors.items():
        rows.append(_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        rows.append(struct.pack("<IQ", _TENSOR_F32, len(body)))
        body += data + bytes(-len(data) % _ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + rows)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + body)
    return path


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
