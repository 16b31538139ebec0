"""examples/kv_sessions.py does what it says on every backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "kv_sessions.py"


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 60


@pytest.mark.requires_capability("kv_continuation", "session_persistence")
def test_a_conversation_is_continued_saved_and_restored(llama_backend: str) -> None:
    done = run("--backend", llama_backend)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    header, *steps = done.stdout.splitlines()
    assert llama_backend in header
    assert [step[:13].strip() for step in steps] == [
        "fresh",
        "continue",
        "continue",
        "save",
        "after reset",
        "after load",
    ]
    fresh, second, third, saved, reset, loaded = steps
    assert "fresh        0 cached" in fresh
    assert all("continued" in step and " 0 cached" not in step for step in (second, third, loaded))
    assert "fresh        0 cached" in reset
    assert f"{saved.split()[1]} cached" in loaded
    assert "Zanora" in third
    assert "Zanora" in loaded
    assert "Zanora" not in reset


@pytest.mark.lacks_capability("kv_continuation", "session_persistence")
def test_what_is_lacking_is_said(llama_backend: str) -> None:
    done = run("--backend", llama_backend)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "it lacks kv_continuation: every turn is fresh" in done.stdout
    assert "it lacks session_persistence: nothing to save or load" in done.stdout
    assert done.stdout.count(" fresh ") == 3
    assert " continued " not in done.stdout


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = run(str(tmp_path / "nowhere.gguf"))
    assert done.returncode == 1
    assert done.stderr.startswith("ModelNotFound: ")
    assert len(done.stderr.splitlines()) == 1
