"""Embeddings natively are llama.cpp's own, to the last bits, for each kind of model and each way of computing them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, Vectors
from llama_bridge.engine import Engine
from llama_bridge.models.source import open_model
from tests.ledger import engine_of
from tests.making import MakeModel

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from benchmarks.raw_embedding import RawEmbedder
from llama_bridge_native.opening import open_engine

EXACT = 1e-5
ROUNDED = 5e-4
"""In other batches: random weights in half precision amplify what rounding differs."""
FUSED = 20
"""So much more where attention is fused: for few tokens llama.cpp sums it up in half precision, for many it does not."""
SPLIT = ("qwen3", "qwen3 reranker", "recurrent", "hybrid")
"""Those whose eight texts are not one batch: for the logits of their large vocabulary, or for their states."""

MODELS: dict[str, dict[str, Any]] = {
    "bert": {"vocab": "bert-bge", "architecture": "bert", "pooling": "cls", "n_head_kv": 4},
    "nomic": {"vocab": "bert-bge", "architecture": "nomic-bert", "pooling": "mean", "n_head_kv": 4},
    "jina": {"vocab": "bert-bge", "architecture": "jina-bert-v2", "pooling": "mean", "n_head_kv": 4},
    "modern": {"vocab": "gpt-2", "architecture": "modern-bert", "pooling": "mean", "n_head_kv": 4},
    "gemma": {"architecture": "gemma-embedding", "pooling": "mean", "n_head_kv": 1},
    "t5": {"architecture": "t5encoder", "pooling": "mean", "n_head_kv": 4},
    "qwen3": {"vocab": "qwen2", "architecture": "qwen3", "pooling": "last"},
    "quantised": {"vocab": "qwen2", "architecture": "qwen2", "pooling": "mean", "quantization": "q8_0"},
    "llama": {"pooling": "last"},
    "window": {"architecture": "gemma3", "pooling": "last"},
    "recurrent": {"architecture": "mamba", "pooling": "last"},
    "hybrid": {"architecture": "lfm2", "pooling": "mean"},
    "reranker": {
        "vocab": "bert-bge", "architecture": "bert", "pooling": "rank", "labels": ("score",), "n_head_kv": 4,
    },
    "modern reranker": {
        "vocab": "gpt-2", "architecture": "modern-bert", "pooling": "rank", "labels": ("score",), "n_head_kv": 4,
    },
    "qwen3 reranker": {
        "vocab": "qwen2", "architecture": "qwen3", "pooling": "rank", "labels": ("yes", "no"),
        "rerank_template": "<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n",
    },
}  # fmt: skip
LARGE = ("qwen3", "qwen3 reranker", "quantised")
"""Those with 150,000 words, which take seconds to write."""
WORDS = [
    "the",
    "KV",
    "cache",
    "keeps",
    "what",
    "was",
    "said",
    "so",
    "that",
    "the",
    "next",
    "turn",
    "costs",
    "only",
    "its",
    "own",
    "tokens",
]


def texts_of(lengths: Sequence[int]) -> list[str]:
    draw = random.Random(7)
    return [" ".join(draw.choices(WORDS, k=length)) for length in lengths]


TEXTS = texts_of([1, 2, 9, 40, 3, 17, 90, 5])


def near(found: Sequence[float], expected: Sequence[float], by: float) -> bool:
    """Whether two rows differ by no more, in proportion to their largest number if that is above 1."""
    most = max(1, *map(abs, expected))
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= by * most


def rows_of(engine: Engine, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    found = engine.embed(sequences)
    assert found is not None
    width = found.nbytes // len(sequences) // 4
    return [list(row) for row in Vectors(found.cast("B"), width)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in MODELS],
)
def test_embeddings_are_those_of_llama_cpp(make_model: MakeModel, name: str, fused: bool) -> None:
    path = make_model(**MODELS[name])
    params = ModelParams(n_threads=1, n_ctx=1024, flash_attn=fused)
    engine = open_engine(open_model(path), params)
    read = [engine.tokenize(text, add_special=True, parse_special=False) for text in TEXTS]
    with RawEmbedder.of(path, fused=fused) as raw:
        assert read == [raw.tokenize(text, add_special=True, parse_special=False) for text in TEXTS]
        together = rows_of(engine, read)
        for found, expected in zip(together, raw.embed(read), strict=True):
            assert near(found, expected, FUSED * ROUNDED if name in SPLIT else EXACT)
        for tokens, in_batch in zip(read, together, strict=True):
            (alone,) = rows_of(engine, [tokens])
            (expected,) = raw.embed([tokens])
            assert near(alone, expected, FUSED * ROUNDED if name in SPLIT else EXACT)
            assert near(alone, in_batch, FUSED * ROUNDED if fused else ROUNDED)
    engine.close()


@pytest.mark.parametrize("n_batch", [1, 10, 64, 100, 1000])
def test_any_size_of_a_batch_gives_the_same(make_model: MakeModel, n_batch: int) -> None:
    path = make_model(**MODELS["nomic"])
    with (
        LlamaBridge(path, backend="native", n_batch=n_batch) as llama,
        LlamaBridge(path, backend="native") as usual,
    ):
        many = TEXTS * 12
        for found, expected in zip(llama.embed(many), usual.embed(many), strict=True):
            assert near(found, expected, FUSED * ROUNDED)


@pytest.mark.slow
def test_a_longer_text_gets_a_larger_context(
    make_model: MakeModel,
) -> None:
    path = make_model(**MODELS["nomic"], n_ctx_train=4096)
    short, long = TEXTS[3], " ".join(texts_of([3000]))
    with LlamaBridge(path, backend="native", n_threads=1) as llama:
        before = bytes(llama.embed(short))
        found = llama.embed(long, normalize=False)
        assert bytes(llama.embed(short)) == before
        tokens = llama.tokenize(long)
    with RawEmbedder.of(path, n_batch=4096) as raw:
        assert near(found, raw.embed([tokens])[0], EXACT)


@pytest.mark.slow
def test_the_last_token_alone_needs_no_logits_of_the_others(make_model: MakeModel) -> None:
    """A text of more tokens than there are logits for is read in two passes, in pieces; llama.cpp does it in one."""
    path = make_model(**MODELS["qwen3"])
    texts = texts_of([900, 3, 500, 80])
    with LlamaBridge(path, backend="native", n_threads=1, n_batch=256, flash_attn=False) as llama:
        read = [llama.tokenize(text) for text in texts]
        found = llama.embed(texts, normalize=False)
    with RawEmbedder.of(path, n_batch=1024, fused=False) as raw:
        for row, tokens in zip(found, read, strict=True):
            assert near(row, raw.embed([tokens])[0], ROUNDED)


@pytest.mark.parametrize(
    "name",
    ["reranker", "modern reranker", pytest.param("qwen3 reranker", marks=pytest.mark.slow)],
)
def test_a_pair_is_read_as_llama_server_reads_it(make_model: MakeModel, name: str) -> None:
    path, query = make_model(**MODELS[name]), "what does a turn cost?"
    documents = ["Only its own tokens.", "the cache", "It keeps\n\nwhat was said. " * 5]
    with RawEmbedder.of(path) as raw:
        pairs = [as_llama_server(raw, MODELS[name], query, document) for document in documents]
        expected = [row[0] for row in raw.embed(pairs)]
    with LlamaBridge(path, backend="native", n_threads=1) as llama:
        ranked = llama.rerank(query, documents)
    scores = [score for _, score in sorted(ranked)]
    assert scores == pytest.approx(expected, abs=ROUNDED)
    assert [index for index, _ in ranked] == sorted(range(3), key=lambda i: -scores[i])


def as_llama_server(
    raw: RawEmbedder, model: dict[str, Any], query: str, document: str
) -> list[int]:
    """``format_prompt_rerank`` of its ``server-common.cpp``."""
    from llama_bridge_native.library import lib  # not installed everywhere: has no place at the top

    if template := model.get("rerank_template"):
        text = template.replace("{query}", query).replace("{document}", document)
        return raw.tokenize(text, add_special=False, parse_special=True)
    vocab = raw.vocab
    eos, sep = lib.llama_vocab_eos(vocab), lib.llama_vocab_sep(vocab)
    eos = sep if eos < 0 else eos
    ends = [eos] if lib.llama_vocab_get_add_eos(vocab) else []
    return [
        *([lib.llama_vocab_bos(vocab)] if lib.llama_vocab_get_add_bos(vocab) else []),
        *raw.tokenize(query, add_special=False, parse_special=False),
        *ends,
        *([sep] if lib.llama_vocab_get_add_sep(vocab) else []),
        *raw.tokenize(document, add_special=False, parse_special=False),
        *ends,
    ]


def test_a_damaged_model_is_an_error_and_the_next_text_too(
    make_model: MakeModel, tmp_path: Path
) -> None:
    from llama_bridge import EngineError
    from tests.gguf_editing import Gguf

    model = Gguf(make_model(**MODELS["bert"]))
    norm = model.tensors["blk.0.layer_output_norm.weight"]
    norm.data = struct.pack("<f", 3e38) * norm.shape[0]
    with LlamaBridge(model.write(tmp_path / "nan.gguf"), backend="native") as llama:
        for text in ("one", ["one", "two"]):
            with pytest.raises(EngineError, match="NaN"):
                llama.embed(text)


def test_a_failed_context_leaves_the_engine_usable(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_bridge import ModelLoadError
    from llama_bridge_native.library import lib

    with LlamaBridge(make_model(**MODELS["llama"]), backend="native", n_ctx=512) as llama:
        first = llama.generate("Hello", chat=False, max_tokens=4, temperature=0)
        with monkeypatch.context() as broken:
            broken.setattr(lib, "llama_init_from_model", lambda *_: None)
            with pytest.raises(ModelLoadError, match="could not load it"):
                llama.embed("Hello")
        assert len(llama.embed("Hello")) == llama.info.n_embd
        assert engine_of(llama)._embedder._context is not None  # type: ignore[attr-defined]
        again = llama.generate("Hello", chat=False, max_tokens=4, temperature=0)
        assert (again.text, again.usage.cached_tokens > 0) == (first.text, True)
