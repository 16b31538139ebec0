"""A file saved here is llama.cpp's own: its loader takes it, and computes what the bridge computes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.files.manifest import drop_state
from tools.random_model import write_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native.library import lib
from tests.ledger import engine_of

N_CTX = 512
GREEDY = SamplingParams(temperature=0, max_tokens=6)
NEXT = 42
"""The token that both sides evaluate: a restored cache has no logits."""


@contextmanager
def raw_context(model_path: Path, *, flash_attention: bool) -> Generator[Any]:
    """A context made with llama.cpp's calls only."""
    model = lib.llama_model_load_from_file(
        os.fsencode(model_path), lib.llama_model_default_params()
    )
    options = lib.llama_context_default_params()
    options.n_ctx = options.n_batch = N_CTX
    options.n_seq_max = options.n_threads = options.n_threads_batch = 1
    options.swa_full = False
    options.flash_attn_type = int(flash_attention)
    context = lib.llama_init_from_model(model, options)
    try:
        yield context
    finally:
        lib.llama_free(context)
        lib.llama_model_free(model)


def load_file(context: Any, path: Path) -> list[int]:
    """What llama.cpp says that the ledger in the file is."""
    tokens = (ctypes.c_int32 * N_CTX)()
    count = ctypes.c_size_t()
    n_bytes = lib.llama_state_seq_load_file(
        context, os.fsencode(path), 0, tokens, N_CTX, ctypes.byref(count)
    )
    assert 0 < n_bytes < path.stat().st_size  # our manifest and footer come behind it
    return tokens[: count.value]


def logits_after(context: Any, token: int, n_vocab: int) -> list[float]:
    data = (ctypes.c_int32 * 1)(token)
    assert lib.llama_decode(context, lib.llama_batch_get_one(data, 1)) == 0
    return list(lib.llama_get_logits_ith(context, -1)[:n_vocab])


@pytest.mark.parametrize("flash_attention", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen2vl", "gemma3", "mamba", "lfm2"])
def test_llama_cpp_loads_a_saved_session(
    architecture: str, flash_attention: bool, tmp_path: Path
) -> None:
    model, file = tmp_path / "m.gguf", tmp_path / "s"
    write_model(model, architecture=architecture, seed=9)
    params = ModelParams(n_ctx=N_CTX, n_threads=1, flash_attn=flash_attention)
    with LlamaBridge(model, backend="native", params=params) as llama:
        llama.generate("Once upon a time there was a small house. " * 5, sampling=GREEDY)
        llama.generate_continue(" And in it", sampling=GREEDY)
        saved = llama.session_save(file)
        tokens, engine = list(llama.session().tokens), engine_of(llama)
        assert engine.decode([NEXT]) == 1
        ours = list(engine.logits())
    with raw_context(model, flash_attention=flash_attention) as context:
        assert load_file(context, file) == tokens
        assert len(tokens) == saved.n_tokens
        memory = lib.llama_get_memory(context)
        assert lib.llama_memory_seq_pos_max(memory, 0) == len(tokens) - 1
        assert logits_after(context, NEXT, len(ours)) == ours


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_llama_cpp_refuses_a_session_without_its_kv_cache_and_keeps_its_own(
    architecture: str, tmp_path: Path
) -> None:
    model, whole, bare = tmp_path / "m.gguf", tmp_path / "s", tmp_path / "bare"
    write_model(model, architecture=architecture, seed=9)
    params = ModelParams(n_ctx=N_CTX, n_threads=1)
    with LlamaBridge(model, backend="native", params=params) as llama:
        llama.generate("Once upon a time there was a small house.", sampling=GREEDY)
        llama.session_save(whole)
        bare.write_bytes(whole.read_bytes())
        drop_state(str(bare))
        tokens = list(llama.session().tokens)
        assert llama.session_load(bare).n_tokens == len(tokens)
        assert list(llama.session().tokens) == tokens
    with raw_context(model, flash_attention=True) as context:
        assert load_file(context, whole) == tokens
        held = (ctypes.c_int32 * N_CTX)()
        n_bytes = lib.llama_state_seq_load_file(
            context, os.fsencode(bare), 0, held, N_CTX, ctypes.byref(ctypes.c_size_t())
        )
        assert n_bytes == 0
        memory = lib.llama_get_memory(context)
        assert lib.llama_memory_seq_pos_max(memory, 0) == len(tokens) - 1
