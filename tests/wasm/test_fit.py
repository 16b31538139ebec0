"""What "auto" takes in llama.wasm, from its memory limits: it loads and runs, and wastes little."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.errors import OutOfMemory
from llama_bridge.models.fitting import WASM, need_of
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams
from llama_bridge.system_memory import SystemMemory
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.fit import check_fit, settle
from tests.gguf_editing import edited_model

from .conftest import random_model

MIB = 1 << 20
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"n_layer": 8, "n_embd": 512, "n_head": 8, "n_head_kv": 4, "n_ff": 1536},
    "qwen3": {"architecture": "qwen3", "n_layer": 6, "n_embd": 512, "n_head": 8, "n_head_kv": 4}
    | {"n_ff": 1536},
    "gemma3": {"architecture": "gemma3", "n_layer": 12, "n_embd": 512, "n_head": 4, "n_head_kv": 2}
    | {"n_ff": 2048, "n_swa": 512},
}
UNKNOWN = SystemMemory(None, None)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("limit", [256, 384, 512])
def test_auto_loads_runs_and_leaves_little_unused(wasm: Path, name: str, limit: int) -> None:
    model = open_model(random_model(n_ctx_train=1 << 20, **SHAPES[name]))
    params = ModelParams(n_ctx="auto", memory_limit=limit * MIB)
    with closing(BACKEND.load(model, params)) as engine:
        n_ctx, used = engine.info.n_ctx, engine.guest.memory_size
        assert engine.decode([1] * 200) == 200
    assert n_ctx % 256 == 0
    assert 0.78 * limit * MIB < used <= limit * MIB


@pytest.mark.parametrize("limit", [64, 96, 256])
def test_auto_by_the_demo_as_in_a_page(wasm: Path, tmp_path: Path, limit: int) -> None:
    model = open_model(edited_model(tmp_path / "m.gguf", {"llama.context_length": 1 << 24}))
    params = ModelParams(n_ctx="auto", memory_limit=limit * MIB)
    with closing(BACKEND.load(model, params)) as engine:
        assert engine.decode([1] * 200) == 200
        assert 0.7 * limit * MIB < engine.guest.memory_size <= limit * MIB


def test_auto_counts_what_is_really_taken(wasm: Path) -> None:
    model = open_model(random_model(n_ctx_train=1 << 20, **SHAPES["llama"]))
    for n_ctx in (2048, 65_536):
        with closing(BACKEND.load(model, ModelParams(n_ctx=n_ctx))) as engine:
            used = engine.guest.memory_size
        need = need_of(model.header, ModelParams(), WASM, n_ctx)
        assert need is not None
        assert need.total == pytest.approx(used, rel=0.03, abs=8 * MIB)


def test_auto_is_at_most_the_trained_context(wasm: Path, demo: ModelFile) -> None:
    with LlamaBridge("demo", backend="wasm", n_ctx="auto", n_gpu_layers="auto") as llama:
        assert llama.info.n_ctx == 1024
        assert llama.info.n_gpu_layers == 0
        assert llama.generate("Hello!", max_tokens=8).text


def test_auto_heeds_what_the_machine_has_free(demo: ModelFile) -> None:
    model = open_model(random_model(n_ctx_train=1 << 20, **SHAPES["llama"]))
    wish = ModelParams(n_ctx="auto")
    free = settle(model, wish, SystemMemory(64 << 30, 200 * MIB)).asked_n_ctx
    limit = settle(model, dataclasses.replace(wish, memory_limit=200 * MIB), UNKNOWN).asked_n_ctx
    assert free == limit < settle(model, wish, UNKNOWN).asked_n_ctx
    assert settle(demo, ModelParams(n_ctx=100), UNKNOWN).n_ctx == 100


def test_what_does_not_fit_even_so_is_refused(wasm: Path) -> None:
    model = open_model(random_model(n_layer=8, n_embd=512, n_ff=2048))
    with pytest.raises(OutOfMemory):
        BACKEND.load(model, ModelParams(n_ctx="auto", memory_limit=24 * MIB))


def test_a_machine_smaller_than_the_limit_counts(demo: ModelFile) -> None:
    params = ModelParams(n_ctx=1 << 18)
    check_fit(demo, params, SystemMemory(8 << 30, 1))
    with pytest.raises(OutOfMemory, match="128 MiB of this machine") as caught:
        check_fit(demo, params, SystemMemory(128 * MIB, 1))
    assert caught.value.limit == 128 * MIB


def test_the_context_that_an_error_names_loads(wasm: Path, demo: ModelFile) -> None:
    with pytest.raises(OutOfMemory) as caught:
        BACKEND.load(demo, ModelParams(n_ctx=1 << 18, memory_limit=128 * MIB))
    assert caught.value.n_ctx
    with closing(
        BACKEND.load(demo, ModelParams(n_ctx=caught.value.n_ctx, memory_limit=128 * MIB))
    ) as engine:
        assert engine.decode([1] * 200) == 200


def test_without_the_check_the_limit_still_holds(wasm: Path, demo: ModelFile) -> None:
    params = ModelParams(n_ctx=1 << 18, memory_limit=128 * MIB, check_memory=False)
    check_fit(demo, params, UNKNOWN)
    with pytest.raises(OutOfMemory, match="in use when it failed"):
        BACKEND.load(demo, params)
