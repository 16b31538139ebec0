"""Embeddings and reranking: texts a second, beside raw llama.cpp, for short and for longer texts."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from llama_bridge import LlamaBridge
from tools.random_model import cached_model

from .measure import alternate, ratio, seconds, spread
from .report import Report, times

__all__ = ["measure_embeddings"]

_MINI_LM = {
    "vocab": "bert-bge", "architecture": "bert", "n_ctx_train": 512, "n_layer": 6, "n_embd": 384, "n_head": 12,
    "n_head_kv": 12, "n_ff": 1536,
}  # fmt: skip
"""The shape of all-MiniLM-L6: 22 million parameters."""
_SMALL = _MINI_LM | {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_head_kv": 4, "n_ff": 128}
RAW = "raw llama.cpp"


def measure_embeddings(
    report: Report, backends: list[str], *, n_threads: int, rounds: int, n_texts: int, quick: bool
) -> None:
    """A table for embedding and one for reranking, and their bounds."""
    shape = _SMALL if quick else _MINI_LM
    for words, count in ((12, n_texts), (150, max(4, n_texts // 8))):
        draw = random.Random(words)
        texts = [_text(draw, words) for _ in range(count)]
        model = cached_model(**shape | {"pooling": "mean", "quantization": "q8_0"})
        what = f"embedding {count} texts of {words} words"
        _compare(
            report,
            str(model),
            what,
            backends,
            n_threads,
            rounds,
            count,
            partial(_embed, texts),
            texts,
        )
    model = cached_model(**shape | {"pooling": "rank", "quantization": "q8_0", "labels": ["score"]})
    draw = random.Random(3)
    query, documents = _text(draw, 10), [_text(draw, 60) for _ in range(max(4, n_texts // 4))]
    _compare(
        report,
        str(model),
        f"reranking {len(documents)} documents of 60 words",
        backends,
        n_threads,
        rounds,
        len(documents),
        lambda bridge: bridge.rerank(query, documents),
        [f"{query} {document}" for document in documents],
    )


def _compare(
    report: Report,
    model: str,
    what: str,
    backends: list[str],
    n_threads: int,
    rounds: int,
    count: int,
    ask: Callable[[LlamaBridge], object],
    raw_texts: list[str],
) -> None:
    with ExitStack() as opened:
        race: dict[str, Callable[[], object]] = {}
        if "native" in backends:
            from .raw_embedding import RawEmbedder  # native is not installed everywhere

            raw = opened.enter_context(RawEmbedder.of(model, n_threads=n_threads))
            race[RAW] = partial(raw.embed_texts, raw_texts)
        for backend in backends:
            bridge = opened.enter_context(LlamaBridge(model, backend=backend, n_threads=n_threads))
            race[backend] = partial(ask, bridge)
        for work in race.values():
            work()
        found = alternate(
            {name: partial(seconds, work) for name, work in race.items()}, rounds, what
        )
    rows = []
    for name, taken in found.items():
        row = [name, f"{count / spread(taken).median:.1f}"]
        rows.append(row + ([times(ratio(found[RAW], taken))] if RAW in found else []))
    columns = ["", "texts/s", "/ raw"]
    report.table(
        f"{what.capitalize()}, {n_threads} threads, {rounds} rounds",
        columns if RAW in found else columns[:2],
        rows,
        "Raw llama.cpp tokenises too, and computes batches of 512 tokens in the order of the texts.",
    )
    for name, other, least in (("native", RAW, 0.97), ("wasm", "native", 0.5)):
        if name in found and other in found:
            measured = ratio(found[other], found[name])
            report.bound(
                f"{name} at least {least:g} of {other} ({what})",
                measured.median,
                measured.median >= least,
                times(measured),
            )


def _embed(texts: list[str], bridge: LlamaBridge) -> object:
    return bridge.embed(texts)


def _text(draw: random.Random, n: int) -> str:
    words = "the of and to in is that for it as was with be by on not he his but at are this have from or had an they"
    return " ".join(draw.choices(words.split(), k=n))
