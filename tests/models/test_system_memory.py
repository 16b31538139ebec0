"""What a machine has, and what its containers leave of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llama_bridge.system_memory import SystemMemory, system_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how Linux describes itself")

GB = 1 << 30
HAS = f"MemTotal: {16 << 20} kB\nMemFree: 100 kB\nMemAvailable: {12 << 20} kB\nSwapFree: {1 << 20} kB\nHugePages_Total: 0\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in ({"proc/meminfo": HAS} | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine() -> None:
    here = system_memory()
    assert here.total is not None
    assert here.available is not None
    assert here.available > 0
    assert here.total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert here.total > 1 << 28


def test_without_a_container(tmp_path: Path) -> None:
    assert system_memory(machine(tmp_path, {})) == SystemMemory(16 * GB, 13 * GB)
    root = machine(tmp_path, {"proc/self/cgroup": "0::/user.slice\n"})
    assert system_memory(root) == SystemMemory(16 * GB, 13 * GB)


@pytest.mark.parametrize("path", ["/", "/docker/abc", "/../.."])
def test_a_container_of_version_2(tmp_path: Path, path: str) -> None:
    top = "sys/fs/cgroup/"
    files = {
        "proc/self/cgroup": f"0::{path}\n",
        top + "memory.max": f"{4 * GB}\n",
        top + "memory.current": f"{3 * GB}\n",
        top + "memory.stat": f"anon {GB}\ninactive_file {GB}\nactive_file {GB // 2}\nshmem 5\n",
    }
    assert system_memory(machine(tmp_path, files)) == SystemMemory(4 * GB, 5 * GB // 2, True)


def test_the_narrowest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/memory.max": f"{2 * GB}",
        "sys/fs/cgroup/a/memory.current": "0",
        "sys/fs/cgroup/a/b/memory.max": f"{8 * GB}",
        "sys/fs/cgroup/a/b/memory.current": f"{7 * GB}",
    }
    assert system_memory(machine(tmp_path, files)) == SystemMemory(2 * GB, GB, True)


def test_a_container_of_version_1(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory/"
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n",
        top + "memory.limit_in_bytes": "9223372036854771712\n",
        top + "x/memory.limit_in_bytes": f"{3 * GB}\n",
        top + "x/memory.usage_in_bytes": f"{2 * GB}\n",
        top + "x/memory.stat": f"cache 1\ntotal_inactive_file {GB}\n",
    }
    assert system_memory(machine(tmp_path, files)) == SystemMemory(3 * GB, 2 * GB, True)


@pytest.mark.parametrize("limit", ["max", "", "-1", "many", "\xff"])
def test_a_limit_that_is_none(tmp_path: Path, limit: str) -> None:
    files = {"proc/self/cgroup": "0::/\nnonsense\n\n", "sys/fs/cgroup/memory.max": limit}
    assert system_memory(machine(tmp_path, files)) == SystemMemory(16 * GB, 13 * GB)


def test_a_container_that_is_full_has_nothing_left(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/memory.max": f"{GB}",
        "sys/fs/cgroup/memory.current": f"{2 * GB}",
    }
    assert system_memory(machine(tmp_path, files)) == SystemMemory(GB, 0, True)


@pytest.mark.parametrize("text", ["", "MemTotal:\n", "MemTotal: x kB", "MemTotal: 1024 kB\n"])
def test_a_system_that_does_not_say_what_is_free(tmp_path: Path, text: str) -> None:
    found = system_memory(machine(tmp_path, {"proc/meminfo": text}))
    assert found.available is None
    assert found.total
