"""Files that somebody hands over, such as one that is dropped on a window: what they are called, and what is left of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llama_bridge import DownloadError
from llama_bridge.hub.dropped import taking
from llama_bridge.testing.hub import HubServer
from llama_bridge.user_cache import user_cache

from .conftest import files_in, real


def take(name: str, data: bytes, piece: int = 1 << 16) -> Path:
    with taking(name, len(data)) as dropped:
        for start in range(0, len(data), piece):
            dropped.write(data[start : start + piece])
        return dropped.done()


@pytest.mark.parametrize(
    "name",
    ["模型" * 100, "🦙" * 120, "e\u0301" * 200, "../" * 50 + "x\0y", "\ud800", "", "...", "CON"],
)
def test_a_file_may_be_called_anything(hub: HubServer, name: str) -> None:
    base = user_cache()
    assert base is not None
    path = take(f"{name}.gguf", real("long"))
    assert path.read_bytes() == real("long")
    assert path.parent.parent == base / "downloads"
    assert path.suffix == ".gguf"
    assert len(path.name.encode()) < 250


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("piece", [100, 5000, 1 << 16])
def test_a_disk_that_gets_full_is_told_and_nothing_is_left(
    hub: HubServer, tmp_path: Path, piece: int
) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_077, before[1]))
        with pytest.raises(DownloadError) as caught:
            take("full.gguf", real("full")[:200_000], piece)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.reason == "the cache cannot be written to: File too large"
    base = user_cache()
    assert base is not None
    assert files_in(base / "downloads") == []


def test_what_a_killed_program_left_goes_with_the_next_file(hub: HubServer) -> None:
    path = take("mine.gguf", real("mine"))
    old, new = (path.with_name(f"mine.gguf.{mark * 8}.tmp") for mark in "ab")
    alone = path.parent.with_name("c" * 32) / f"other.gguf.{'c' * 8}.tmp"
    alone.parent.mkdir()
    for left in (old, new, alone):
        left.write_bytes(real("left"))
    for left in (old, alone):
        os.utime(left, (0, 0))
    take("next.gguf", real("next"))
    assert not old.exists()
    assert not alone.parent.exists()
    assert new.exists()  # somebody may be writing it
    assert path.read_bytes() == real("mine")
