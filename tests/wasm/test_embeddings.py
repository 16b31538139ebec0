"""Embeddings in llama.wasm: native's numbers, and a status for whatever is wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, OutOfMemory
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import EMBED_PARAMS, Guest, Info, Status
from tests.making import MakeModel, embedding_model

from .conftest import MakeGuest, last_error, load, put

NEAR = 1e-3
TEXTS = ["the", "What is a KV cache?", "Grüße, 世界!", "It keeps what was said. " * 12, "the"]
MEAN, LAST = 1, 3
MODELS: dict[str, dict[str, Any]] = {
    "bert": {"vocab": "bert-bge", "architecture": "bert", "pooling": "cls", "n_head_kv": 4},
    "nomic": {
        "vocab": "bert-bge", "architecture": "nomic-bert", "pooling": "mean", "n_head_kv": 4,
        "quantization": "q8_0",
    },
    "jina": {"vocab": "bert-bge", "architecture": "jina-bert-v2", "pooling": "mean", "n_head_kv": 4},
    "modern": {"vocab": "gpt-2", "architecture": "modern-bert", "pooling": "mean", "n_head_kv": 4},
    "gemma": {"architecture": "gemma-embedding", "pooling": "mean", "n_head_kv": 1},
    "t5": {"architecture": "t5encoder", "pooling": "mean", "n_head_kv": 4},
    "llama": {"pooling": "last", "quantization": "q4_0"},
    "recurrent": {"architecture": "mamba", "pooling": "last"},
    "hybrid": {"architecture": "lfm2", "pooling": "mean"},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_those_of_native(
    native_backend: None, make_model: MakeModel, wasm: Path, name: str
) -> None:
    path = make_model(**MODELS[name])
    found: list[list[list[float]]] = []
    for backend in ("native", "wasm"):
        with LlamaBridge(path, backend=backend, n_threads=1) as llama:
            found.append(llama.embed(TEXTS).tolist())
            alone = list(llama.embed(TEXTS[3]))
        assert alone == pytest.approx(found[-1][3], abs=NEAR)
    by = NEAR if MODELS[name].get("quantization") is None else 10 * NEAR
    for native, ours in zip(*found, strict=True):
        assert ours == pytest.approx(native, abs=by)


@pytest.mark.slow
def test_a_long_text_is_read_in_two_passes_of_pieces(
    native_backend: None, make_model: MakeModel, wasm: Path
) -> None:
    """With a vocabulary so large that the logits of all tokens would take too much memory."""
    path = make_model(vocab="qwen2", architecture="qwen3", pooling="last")
    found: list[list[float]] = []
    for backend in ("native", "wasm"):
        with LlamaBridge(path, backend=backend, n_threads=1) as llama:
            found.append(list(llama.embed("It keeps what was said. " * 60)))
    assert found[0] == pytest.approx(found[1], abs=2 * NEAR)


def embed(guest: Guest, pooling: int, sequences: Sequence[Sequence[int]], /, **changes: int) -> int:
    """One call of ``lb_embed``; ``changes`` are wrong fields."""
    n_tokens = sum(map(len, sequences))
    fields = {
        "pooling": pooling, "flash_attention": 1, "n_sequences": len(sequences), "n_tokens": n_tokens,
        "n_batch": 32, "capacity": 32,
    } | changes  # fmt: skip
    tokens = [token for sequence in sequences for token in sequence]
    lengths = put(guest, struct.pack(f"<{len(sequences)}i", *map(len, sequences)))
    out = put(guest, bytes(4 * 4096 * max(1, len(sequences))))
    packed = put(guest, EMBED_PARAMS.pack(*fields.values()))
    return guest.call(
        "lb_embed", packed, lengths, put(guest, struct.pack(f"<{n_tokens}i", *tokens)), out
    )


def test_wrong_arguments_give_a_status_and_the_model_stays(
    make_guest: MakeGuest, demo: ModelFile
) -> None:
    guest = make_guest()
    assert embed(guest, MEAN, [[1, 2]]) == Status.NO_MODEL
    assert guest.call("lb_embed_width", MEAN) == Status.NO_MODEL
    assert load(guest) == 0
    assert guest.call("lb_embed_width", MEAN) == guest.call("lb_info", Info.N_EMBD)
    wrong: list[dict[str, int]] = [
        {"pooling": 0}, {"pooling": 5}, {"pooling": -1}, {"flash_attention": 2}, {"n_sequences": 0},
        {"n_sequences": 65}, {"n_tokens": 0}, {"n_tokens": 3}, {"n_tokens": -1}, {"n_tokens": 2**31 - 1},
        {"n_batch": 0}, {"capacity": -1}, {"capacity": 2**31 - 1},
    ]  # fmt: skip
    for change in wrong:
        assert embed(guest, MEAN, [[1, 2]], **change) == Status.BAD_ARGUMENT, change
        assert last_error(guest)
    for token in (-1, 10**6):
        assert embed(guest, MEAN, [[1, token]]) == Status.BAD_ARGUMENT
    assert guest.call("lb_embed", 0, 0, 0, 0) == Status.BAD_ARGUMENT
    assert embed(guest, MEAN, [[1, 2], [3]]) == 0
    assert embed(guest, LAST, [[1, 2], [3]]) == 0
    assert guest.call("lb_length", 0) == 0


def test_an_encoder_answers_the_calls_that_generate_with_a_status(
    make_guest: MakeGuest, tmp_path: Path
) -> None:
    guest = make_guest(embedding_model(tmp_path / "bert.gguf"))
    assert load(guest) == 0
    assert guest.call("lb_info", Info.IS_ENCODER) == 1
    assert guest.call("lb_length", 0) == 0
    assert guest.call("lb_decode", 0, put(guest, struct.pack("<i", 1)), 1) < 0
    assert guest.call("lb_logits", 0) == 0
    assert guest.call("lb_truncate", 0, 0) == 1
    assert guest.call("lb_clear", 0) == 0
    assert embed(guest, MEAN, [[1] * 64]) == 0
    assert embed(guest, MEAN, [[1] * 65]) == Status.BAD_ARGUMENT  # positions end at 64
    assert "trained with" in last_error(guest)
    guest.call("lb_unload")
    assert embed(guest, MEAN, [[1]]) == Status.NO_MODEL


def test_without_memory_for_a_long_text_it_says_so_and_goes_on(
    wasm: Path, make_model: MakeModel
) -> None:
    path = make_model(**MODELS["jina"], n_ctx_train=1 << 16)
    with LlamaBridge(path, backend="wasm", n_ctx=1 << 16, memory_limit=160 << 20) as llama:
        with pytest.raises(OutOfMemory):
            llama.embed("word " * 60_000)
        assert len(llama.embed("short")) == llama.info.n_embd


def test_without_memory_for_the_first_text_it_says_so_and_goes_on(
    wasm: Path, make_model: MakeModel
) -> None:
    """Whatever llama.cpp lacks first: where it is the plan of a computation, llama.cpp would end the guest."""
    model = open_model(make_model(**MODELS["bert"]))
    with closing(BACKEND.load(model, ModelParams(n_ctx=64))) as engine:
        loaded = engine.guest.memory_size
    outcomes = []
    for more in (1, 12, 22, 30):
        params = ModelParams(n_ctx=64, memory_limit=loaded + (more << 20), check_memory=False)
        with closing(BACKEND.load(model, params)) as engine:
            for _ in range(2):
                try:
                    engine.embed([[5] * 60])
                    outcomes.append(True)
                except OutOfMemory:
                    outcomes.append(False)
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (False, True)
