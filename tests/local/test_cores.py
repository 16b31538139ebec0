"""How many threads an engine computes with: the physical cores that the process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llama_bridge import ModelParams
from llama_bridge.local.cores import compute_threads, usable_cores


def test_a_tiny_model_takes_one_thread_unless_told() -> None:
    assert compute_threads(ModelParams(), 3 << 20) == 1
    assert compute_threads(ModelParams(), 400 << 20) >= 1
    assert compute_threads(ModelParams(n_threads=3), 3 << 20) == 3


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
    assert compute_threads(ModelParams(), 1 << 30, cores=6) == 6
