"""The models that nothing is wrong with: small ones of every architecture here, with a part of a real vocabulary."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.models.document import Document
from tests.gguf_editing import Array, Gguf
from tools.random_model import write_model

__all__ = ["SEEDS", "prepare", "read_seeds"]

_SMALL: dict[str, Any] = {
    "n_layer": 2, "n_embd": 64, "n_head": 4, "n_head_kv": 2, "n_ff": 96, "n_ctx_train": 128, "n_swa": 16,
}  # fmt: skip
_WORDS = 400

SEEDS: dict[str, dict[str, Any]] = {
    "llama-spm": {"architecture": "llama", "vocab": "llama-spm", "quantization": "q4_0"},
    "llama-bpe": {"architecture": "llama", "vocab": "gpt-2", "quantization": "f16"},
    "qwen2": {"architecture": "qwen2", "vocab": "starcoder", "quantization": "q8_0"},
    "qwen2vl": {"architecture": "qwen2vl", "vocab": "gpt-2", "quantization": "q5_0"},
    "qwen3": {"architecture": "qwen3", "vocab": "gpt-2", "quantization": "q8_0"},
    "gemma3": {"architecture": "gemma3", "vocab": "llama-spm", "quantization": "q8_0"},
    "mamba": {"architecture": "mamba", "vocab": "gpt-2", "quantization": "q8_0"},
    "lfm2": {"architecture": "lfm2", "vocab": "falcon", "quantization": "q8_0"},
    "k-quants": {
        "architecture": "llama", "vocab": "baichuan", "quantization": "q4_k", "embedding": "q6_k",
        "n_embd": 256, "n_ff": 256,
    },
    "gemma2": {"architecture": "gemma2", "vocab": "llama-spm", "quantization": "q8_0", "tied": True},
    "gpt2": {"architecture": "gpt2", "vocab": "gpt-2", "quantization": "q8_0"},
    "mamba2": {"architecture": "mamba2", "vocab": "gpt-2", "quantization": "q8_0"},
    "phi3": {"architecture": "phi3", "vocab": "baichuan", "quantization": "q8_0"},
    "qwen3moe": {"architecture": "qwen3moe", "vocab": "gpt-2", "quantization": "q8_0"},
    "rwkv7": {"architecture": "rwkv7", "vocab": "gpt-2", "quantization": "q8_0"},
    "bert": {"architecture": "bert", "vocab": "bert-bge", "pooling": "cls", "quantization": "f16"},
    "bert-rank": {
        "architecture": "bert", "vocab": "bert-bge", "pooling": "rank", "labels": ["relevant"],
        "quantization": "f16",
    },
    "nomic-bert": {"architecture": "nomic-bert", "vocab": "bert-bge", "pooling": "mean", "quantization": "q8_0"},
    "bert-ugm": {"architecture": "bert", "vocab": "nomic-bert-moe", "pooling": "mean", "quantization": "q8_0"},
    "modern-bert": {"architecture": "modern-bert", "vocab": "gpt-2", "pooling": "mean", "quantization": "q8_0"},
    "gemma-embedding": {
        "architecture": "gemma-embedding", "vocab": "llama-spm", "pooling": "mean", "quantization": "q8_0",
    },
    "t5encoder": {"architecture": "t5encoder", "vocab": "nomic-bert-moe", "pooling": "mean", "quantization": "q8_0"},
}  # fmt: skip
"""Names and the parameters of :func:`tools.random_model.write_model`."""
_ENCODERS = {"n_head": 4, "n_head_kv": 4}


def prepare(folder: Path, names: Sequence[str] = tuple(SEEDS)) -> None:
    """Write the seeds, or some of them; the vocabularies are cut, because reading them takes longer than everything else."""
    documents: dict[str, Document] = {}
    path = folder / "seed.gguf"
    for name in names:
        parameters = SEEDS[name]
        more = _ENCODERS if "pooling" in parameters else {}
        write_model(path, **(_SMALL | more | parameters))
        documents[name] = _cut(Document.of(Gguf(path)))
    path.unlink()
    (folder / "seeds.pickle").write_bytes(pickle.dumps(documents))


def read_seeds(folder: Path) -> dict[str, Document]:
    """What :func:`prepare` wrote."""
    documents: dict[str, Document] = pickle.loads((folder / "seeds.pickle").read_bytes())
    return documents


def _cut(document: Document) -> Document:
    """Leave of the vocabulary only what it cannot do without, and some words."""
    words = _items(document, "tokens")
    count = len(words)
    kept = sorted(_kept(document, words))
    new_id = {old: new for new, old in enumerate(kept)}
    for pair in document.pairs:
        value = pair.value
        if isinstance(value, Array) and len(value.items) == count:
            value.items = [value.items[i] for i in kept]
        elif pair.key.endswith(b"_token_id"):
            pair.value = new_id.get(value, 0)
        elif pair.key == b"general.name":
            pair.value = b"random"  # of some names llama.cpp expects certain tokens
        elif pair.key.endswith(b".vocab_size"):
            pair.value = len(kept)
        elif pair.key == b"tokenizer.ggml.token_type_count":
            pair.value = 2  # as the random models have it
    merges = document.array("tokenizer.ggml.merges")
    if merges is not None:
        known = {words[i] for i in kept}
        merges.items = [merge for merge in merges.items if _makes(merge, known)]
    for row in document.rows:
        if len(row.shape) == 2 and row.shape[1] == count:
            row.data = _rows(row.data, count, kept)
            row.shape[1] = len(kept)
    return document


def _kept(document: Document, words: list[bytes]) -> set[int]:
    """Tokens with a role, single bytes and characters, and the first words after them."""
    ids = {
        pair.value
        for pair in document.pairs
        if pair.key.endswith(b"_token_id") and 0 <= pair.value < len(words)
    }

    def needed(word: bytes) -> bool:
        return len(word.decode("utf-8", "replace")) == 1 or (
            len(word) == 6 and word.startswith(b"<0x")
        )

    ids |= {i for i, word in enumerate(words[:5000]) if needed(word)}
    start = 0 if len(words) - len(ids) < 3000 else 1500  # where BERT's unused ones end
    ids |= set(range(start, start + _WORDS - min(len(ids), _WORDS - 100)))
    return ids


def _makes(merge: bytes, known: set[bytes]) -> bool:
    left, _, right = merge.partition(b" ")
    return {left, right, left + right} <= known


def _rows(data: bytes, count: int, kept: list[int]) -> bytes:
    size = len(data) // count
    return b"".join(data[i * size : (i + 1) * size] for i in kept)


def _items(document: Document, name: str) -> list[bytes]:
    array = document.array(f"tokenizer.ggml.{name}")
    assert array is not None
    return list(array.items)
