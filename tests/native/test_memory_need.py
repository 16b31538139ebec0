"""What a model needs is computed from its header; llama.cpp itself is asked what it reserves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.models.gguf import GgufHeader, Value
from llama_bridge.models.memory_need import memory_need
from llama_bridge.models.source import open_model
from tools.random_model import QWEN2_HALF_BILLION, write_model

MODELS: dict[str, dict[str, Any]] = {
    "Llama 2 70B": {
        "vocab": "llama-spm",
        "n_layer": 80,
        "n_embd": 8192,
        "n_head": 64,
        "n_head_kv": 8,
        "n_ff": 28672,
    },
    "Llama 2 7B": {
        "vocab": "llama-spm",
        "n_layer": 32,
        "n_embd": 4096,
        "n_head": 32,
        "n_head_kv": 32,
        "n_ff": 11008,
    },
    "Llama 3 8B": {
        "vocab": "llama-bpe",
        "n_layer": 32,
        "n_embd": 4096,
        "n_head": 32,
        "n_head_kv": 8,
        "n_ff": 14336,
    },
    "Qwen 2.5 0.5B": {**QWEN2_HALF_BILLION},
    "Qwen 3 4B": {
        "vocab": "qwen2",
        "architecture": "qwen3",
        "n_layer": 36,
        "n_embd": 2560,
        "n_head": 32,
        "n_head_kv": 8,
        "n_ff": 9728,
    },
    "Gemma 3 4B": {
        "vocab": "llama-spm",
        "architecture": "gemma3",
        "n_layer": 34,
        "n_embd": 2560,
        "n_head": 8,
        "n_head_kv": 4,
        "n_ff": 10240,
        "n_swa": 1024,
    },
    "LFM2 1.2B": {
        "vocab": "llama-spm",
        "architecture": "lfm2",
        "n_layer": 16,
        "n_embd": 2048,
        "n_head": 32,
        "n_head_kv": 8,
        "n_ff": 8192,
    },
    "Mamba 790M": {
        "vocab": "llama-spm",
        "architecture": "mamba",
        "n_layer": 48,
        "n_embd": 2048,
        "n_ff": 0,
    },
}
_WORKER = Path(__file__).with_name("reserve_worker.py")
CACHES = {
    "Llama 2 70B": 80 * 8 * 128,
    "Llama 2 7B": 32 * 32 * 128,
    "Llama 3 8B": 32 * 8 * 128,
    "Qwen 2.5 0.5B": 24 * 2 * 64,
    "Qwen 3 4B": 36 * 8 * 80,
}
"""Numbers that one token has in K, and as many in V."""


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of the models' sizes that take no room: no weight is in them."""
    folder = tmp_path_factory.mktemp("hollow")
    for name, shape in MODELS.items():
        same = {"quantization": "q4_0", "n_ctx_train": 131_072}
        write_model(folder / name, hollow=True, **shape | same)
    return {name: folder / name for name in MODELS}


def test_the_total_is_within_three_per_cent_of_what_llama_cpp_reserves(
    native_backend: None, hollow: dict[str, Path]
) -> None:
    asked = [
        (name, n_ctx, at_once, flash_attn, n_parallel)
        for name in MODELS
        for n_ctx, at_once, flash_attn, n_parallel in (
            (4096, 512, True, 1),
            (131_072, 512, True, 1),
            (131_072, 128, True, 1),
            (8192, 512, False, 1),
            (8192, 512, True, 4),
            (131_072, 512, True, 16),
        )
        if flash_attn or name != "Mamba 790M"
    ]
    questions = [[str(hollow[name]), *rest] for name, *rest in asked]
    command = [sys.executable, str(_WORKER), json.dumps(questions)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    found = {}
    for each, mib in zip(asked, json.loads(done.stdout), strict=True):
        name, n_ctx, at_once, flash_attn, n_parallel = each
        header = open_model(hollow[name]).header
        need = memory_need(
            header, n_ctx, at_once=at_once, flash_attn=flash_attn, n_parallel=n_parallel
        )
        assert need is not None
        really = need.weights + need.cache + mib * 2**20
        found[each] = need.total / really
        assert need.work == pytest.approx(mib * 2**20, rel=0.07), each
    assert all(0.97 < ratio < 1.03 for ratio in found.values()), found


def test_weights_and_caches_are_exact(hollow: dict[str, Path]) -> None:
    for name, path in hollow.items():
        header = open_model(path).header
        need = memory_need(header, 1000)
        assert need is not None
        room = header.file_size - header.data_offset
        assert room - 32 * len(header.tensors) < need.weights <= room
        if name in CACHES:
            assert need.cache == 1024 * CACHES[name] * 2 * 2
    gemma = open_model(hollow["Gemma 3 4B"]).header
    layer, need = 4 * 320 * 2 * 2, memory_need(gemma, 32_768)
    assert need is not None
    # This file says that every other layer has a window; llama.cpp logs two caches of these sizes.
    assert need.cache == layer * (17 * 32_768 + 17 * (1024 + 512))
    smaller = memory_need(gemma, 32_768, type_k="q8_0", type_v="q8_0")
    assert smaller is not None
    assert smaller.cache == need.cache * 34 // 64
    several = memory_need(gemma, 32_768, n_parallel=4)
    assert several is not None
    assert several.cache == layer * (17 * 32_768 + 17 * (4 * 1024 + 512))
    mamba = open_model(hollow["Mamba 790M"]).header
    one, three = memory_need(mamba, 1000), memory_need(mamba, 1000, n_parallel=3)
    assert one is not None
    assert three is not None
    assert three.cache == 3 * one.cache


def test_what_a_session_file_takes_is_what_was_counted(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    write_model(model, vocab="llama-spm", architecture="mamba", n_layer=3, n_embd=64, n_ff=0)
    need = memory_need(open_model(model).header, 512)
    with LlamaBridge(model, backend="native", n_ctx=512) as llama:
        llama.generate("word", chat=False, max_tokens=4)
        saved = llama.session_save(tmp_path / "s")
    assert need is not None
    assert 0 < saved.n_bytes - need.cache < 6000


def _header(arch: str, **values: Value) -> GgufHeader:
    metadata = {f"{arch}.{key.replace('__', '.')}": value for key, value in values.items()}
    metadata["general.architecture"] = arch
    return GgufHeader(3, metadata, (), 0, 0, (0, 0), (), (0, 0))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"block_count": 1 << 31, "attention__head_count": 4, "embedding_length": 64},
        {"block_count": 2, "attention__head_count": 0},
        {"block_count": 2, "attention__head_count": "four"},
        {"block_count": 2, "attention__head_count": 4, "attention__kv_lora_rank": 512},
    ],
)
def test_what_is_not_known_is_none(values: dict[str, Value]) -> None:
    assert memory_need(_header("gemma3", **values), 4096) is None


@pytest.mark.parametrize(
    ("pattern", "windowed"), [(0, 5), (-3, 5), (2, 3), ([True, False, True, False], 2), ("x", 5)]
)
def test_odd_patterns_of_windows(pattern: Value, windowed: int) -> None:
    known: dict[str, Value] = {"block_count": 6, "embedding_length": 64, "attention__head_count": 1}
    known |= {"attention__sliding_window": 256, "attention__sliding_window_pattern": pattern}
    need = memory_need(_header("gemma3", **known), 8192)
    assert need is not None
    assert need.cache == 64 * 2 * 2 * (windowed * (256 + 512) + (6 - windowed) * 8192)


def test_layers_without_a_cache_of_their_own_take_none() -> None:
    """As llama.cpp filters them. Counted in full, a model that fits would be refused."""
    known: dict[str, Value] = {"block_count": 8, "embedding_length": 64, "attention__head_count": 1}
    ssm: dict[str, Value] = {"inner_size": 32, "state_size": 8, "group_count": 2, "conv_kernel": 4}
    linear = known | {f"ssm__{key}": value for key, value in ssm.items()}
    state = 4 * (3 * (32 + 2 * 2 * 8) + 8 * 32)
    per_token = 64 * 2 * 2

    def cache(arch: str, values: dict[str, Value]) -> int:
        need = memory_need(_header(arch, **values), 8192)
        assert need is not None
        return need.cache

    for arch in ("qwen35", "qwen35moe", "qwen3next"):
        assert cache(arch, linear) == 6 * state + 2 * per_token * 8192
    often = linear | {"full_attention_interval": 2}
    assert cache("qwen35", often) == 4 * state + 4 * per_token * 8192
    kinds: list[int | float | bool] = [*[True] * 7, False]
    listed = linear | {"attention__recurrent_layers": kinds}
    assert cache("qwen35", listed) == 7 * state + per_token * 8192
    assert cache("llama", known | {"nextn_predict_layers": 1}) == 7 * per_token * 8192
    assert cache("gemma3n", known | {"block_count": 30}) == 20 * per_token * 8192


def test_layers_with_a_window_have_narrower_heads_in_gemma_4() -> None:
    known: dict[str, Value] = {"block_count": 6, "embedding_length": 64, "attention__head_count": 1}
    known |= {"attention__sliding_window": 256, "attention__shared_kv_layers": 2}
    known |= {f"attention__{side}_length": 64 for side in ("key", "value")}
    known |= {f"attention__{side}_length_swa": 32 for side in ("key", "value")}
    known["attention__sliding_window_pattern"] = [True, True, False] * 2
    need = memory_need(_header("gemma4", **known), 8192)
    assert need is not None
    assert need.cache == 3 * 32 * 2 * 2 * (256 + 512) + 64 * 2 * 2 * 8192


def test_a_hollow_model_takes_no_room_and_has_the_size_of_a_whole_one(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"vocab": "llama-spm", "n_layer": 2, "n_embd": 64, "n_ff": 96}
    for quantization in ("f16", "q8_0"):
        write_model(tmp_path / "whole", quantization=quantization, **shape)
        write_model(tmp_path / "hollow", quantization=quantization, hollow=True, **shape)
        whole, hollow = (open_model(tmp_path / name).header for name in ("whole", "hollow"))
        assert hollow == whole
    write_model(tmp_path / "large", hollow=True, **shape | {"n_layer": 64, "n_embd": 4096})
    if hasattr(os.stat_result, "st_blocks"):
        assert (tmp_path / "large").stat().st_blocks * 512 < 10_000_000
