"""The random models that tests and benchmarks are made of, and the vocabularies in them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, MemoryKind, ModelParams, SamplingParams
from tools.random_model import CHATML, TINY, cached_model, vocabulary, write_model, writer

GREEDY = SamplingParams(max_tokens=24, temperature=0)
# Threads that wait for each other make a tiny model slow on a busy machine.
PARAMS = ModelParams(n_ctx=512, n_threads=1)

VOCABULARIES = [
    "llama-spm",
    "phi-3",
    "gpt-2",
    "qwen2",
    "llama-bpe",
    "falcon",
    "starcoder",
    "deepseek-llm",
]
FORMS: list[tuple[dict[str, Any], MemoryKind]] = [
    ({"architecture": "llama", "quantization": "q8_0"}, MemoryKind.DENSE),
    ({"architecture": "qwen2", "quantization": "q4_0", "tied": True}, MemoryKind.DENSE),
    ({"architecture": "llama", "quantization": "q5_0"}, MemoryKind.DENSE),
    *(
        (
            {"architecture": "llama", "n_embd": 256, "n_ff": 256, "quantization": name},
            MemoryKind.DENSE,
        )
        for name in ("q4_k", "q5_k", "q6_k")
    ),
    ({"architecture": "gemma3", "n_layer": 4}, MemoryKind.SWA),
    ({"architecture": "mamba"}, MemoryKind.RECURRENT),
    ({"architecture": "lfm2", "n_layer": 4}, MemoryKind.HYBRID),
]


@pytest.fixture(params=["native", "wasm"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_tokens_are_those_that_the_vocabulary_ships_as_right(
    vocab: str, backend: str, tmp_path: Path
) -> None:
    vectors = vocabulary(vocab).test_vectors
    write_model(tmp_path / "model.gguf", **(TINY | {"vocab": vocab, "quantization": "q4_0"}))
    with LlamaBridge(tmp_path / "model.gguf", backend=backend, params=PARAMS) as llama:
        assert len(vectors) > 40
        for text, tokens in vectors:
            assert llama.tokenize(text, add_special=False, parse_special=False) == tokens, text
        assert llama.info.n_vocab == vocabulary(vocab).n_tokens
        assert llama.generate("Once upon a time", sampling=GREEDY).usage.completion_tokens == 24


@pytest.mark.parametrize(
    ("form", "memory"),
    FORMS,
    ids=[f"{form['architecture']}-{form.get('quantization', 'f16')}" for form, _ in FORMS],
)
def test_each_kind_of_memory_has_an_architecture(
    form: dict[str, Any], memory: MemoryKind, backend: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "model.gguf", **form)
    with LlamaBridge(tmp_path / "model.gguf", backend=backend, params=PARAMS) as llama:
        assert llama.info.memory is memory
        assert llama.generate("Once upon a time", sampling=GREEDY).finish_reason == "length"


def test_greedy_decoding_never_meets_an_end_token(backend: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model.gguf", **TINY)
    with LlamaBridge(tmp_path / "model.gguf", backend=backend, params=PARAMS) as llama:
        long = SamplingParams(max_tokens=400, temperature=0)
        drawn = llama.generate("Once upon a time", sampling=long)
        assert drawn.usage.completion_tokens == 400
        assert set(llama.info.end_of_generation) <= set(vocabulary("llama-spm").control_tokens)


def test_the_chat_template_is_the_one_asked_for(backend: str, tmp_path: Path) -> None:
    for template in (None, CHATML):
        write_model(
            tmp_path / "model.gguf", vocab="qwen2", chat_template=template, quantization="q4_0"
        )
        with LlamaBridge(tmp_path / "model.gguf", backend=backend, params=PARAMS) as llama:
            assert llama.model.chat_template == template


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_model(tmp_path / name, seed=seed, quantization="q8_0")
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert len(a) == len(c)


def test_an_unknown_vocabulary_names_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="gpt-2"):
        vocabulary("gpt-9")


def test_a_model_that_is_used_again_stays_as_it_is_for_those_who_have_chosen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser no longer reads a file that has a new time: a page went on with its old model."""
    monkeypatch.setattr(writer, "cache_folder", lambda _: tmp_path)
    model = cached_model(**TINY)
    assert model.parent == tmp_path
    an_hour_ago, two_days_ago = time.time() - 3600, time.time() - 2 * 86_400
    os.utime(model, (an_hour_ago, an_hour_ago))
    cached_model(**TINY)
    assert model.stat().st_mtime == pytest.approx(an_hour_ago, abs=1)
    os.utime(model, (two_days_ago, two_days_ago))
    cached_model(**TINY)  # nobody takes it for one that is not used any more
    assert model.stat().st_mtime > an_hour_ago
