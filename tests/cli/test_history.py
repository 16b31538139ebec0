"""What was typed is kept for the next chat: by its owner alone, whole, and never at any price."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from llama_bridge.cli.history import KeptHistory, history_file


def read(path: Path) -> list[str]:
    return list(KeptHistory(path).load_history_strings())


def test_the_newest_comes_first_and_lines_stay_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "history"
    history = KeptHistory(path)
    for typed in ("one", "two\nlines", "größe 世界", "lone \udc80"):
        history.store_string(typed)
    assert read(path) == ["lone \udc80", "größe 世界", "two\nlines", "one"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "history"
    before = os.umask(0)
    try:
        KeptHistory(path).store_string("secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    KeptHistory(path).store_string("secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_chats_at_once_both_keep_theirs(tmp_path: Path) -> None:
    one, two = KeptHistory(tmp_path / "h"), KeptHistory(tmp_path / "h")
    for i in range(5):
        one.store_string(f"one {i}")
        two.store_string(f"two {i}")
    assert len(read(tmp_path / "h")) == 10


def test_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "h"
    path.write_bytes(b'"good"\n\xff\xfe\n{"no": "string"}\n[[[\n"half\n"last"\n' + b"[" * 100_000)
    assert read(path) == ["last", "good"]


def test_where_nothing_can_be_written_the_chat_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    history = KeptHistory(tmp_path / "file" / "history")
    history.store_string("typed")
    assert list(history.load_history_strings()) == []
    folder = tmp_path / "folder"
    folder.mkdir()
    KeptHistory(folder).store_string("typed")
    assert read(folder) == []
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        KeptHistory(tmp_path / "pipe").store_string("waits for nobody")
        assert read(tmp_path / "pipe") == []


def test_a_file_that_grew_is_cut_to_its_newest_part(tmp_path: Path) -> None:
    path = tmp_path / "h"
    lines = [json.dumps(f"{i} " + "x" * 1000) for i in range(3000)]
    path.write_text("\n".join(lines) + "\n")
    kept = read(path)
    assert kept[0].startswith("2999 ")
    assert 900 < len(kept) < 1100
    assert path.stat().st_size <= 1 << 20
    KeptHistory(path).store_string("new")
    assert read(path)[:2] == ["new", kept[0]]
    assert [p.name for p in tmp_path.iterdir()] == ["h"]


def test_it_lies_where_the_system_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
        assert history_file() == Path("/somewhere/llama-bridge/chat_history.jsonl")
    assert history_file().parent.name
