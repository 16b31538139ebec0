"""Settings are checked when they are made, and the message names them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import InvalidInput, ModelParams, SamplingParams
from llama_bridge.local.cores import usable_cores


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_p", 1.01),
        ("min_p", -1),
        ("top_k", -1),
        ("top_k", 0.5),
        ("repeat_penalty", 0),
        ("repeat_last_n", -5),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", "abc"),
    ],
)
def test_sampling_params_name_what_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name}="):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_ctx", -1),
        ("n_ctx", "big"),
        ("n_batch", 0),
        ("n_threads", -2),
        ("n_gpu_layers", -2),
        ("kv_type_k", "f8"),
        ("kv_type_v", None),
        ("flash_attention", "auto"),
        ("memory_limit", 5 << 30),
    ],
)
def test_model_params_name_what_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{name}="):
        ModelParams(**{name: value})


def test_a_quantised_v_cache_without_flash_attention_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidInput, match="flash_attention=True"):
        ModelParams(kv_type_v="q8_0", flash_attention=False)
    assert ModelParams(kv_type_v="q8_0", flash_attention=True).kv_type_v == "q8_0"


def test_the_context_is_the_trained_one_within_reason() -> None:
    assert ModelParams().context_length(1024) == 1024
    assert ModelParams().context_length(131_072) == 4096
    assert ModelParams(n_ctx=8192).context_length(1024) == 8192


def test_a_tiny_model_takes_one_thread_unless_told() -> None:
    assert ModelParams().threads(3 << 20) == 1
    assert ModelParams().threads(400 << 20) >= 1
    assert ModelParams(n_threads=3).threads(3 << 20) == 3


def cores_of(folder: Path, siblings: list[str], quota: str = "") -> int:
    """What is found on a machine whose CPUs 0, 1, ... have these siblings."""
    for cpu, text in enumerate(siblings):
        topology = folder / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True, exist_ok=True)
        (topology / "thread_siblings_list").write_text(text + "\n")
    if quota:
        (folder / "fs/cgroup").mkdir(parents=True, exist_ok=True)
        (folder / "fs/cgroup/cpu.max").write_text(quota + "\n")
    return usable_cores(folder)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone tells")
def test_cores_are_physical_and_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = ["0,4", "1,5", "2,6", "3,7"] * 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores_of(tmp_path / "pairs", pairs) == 4
    assert cores_of(tmp_path / "whole", [str(n) for n in range(8)]) == 8
    assert cores_of(tmp_path / "untold", []) == 8
    for quota, expected in (
        ("max 100000", 4),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9900000 100000", 4),
        ("nonsense", 4),
        ("1 0", 4),
    ):
        assert cores_of(tmp_path / "pairs", pairs, quota) == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5})
    assert cores_of(tmp_path / "pairs", pairs, "max 100000") == 1
    assert ModelParams().threads(1 << 30, cores=6) == 6
