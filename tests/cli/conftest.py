"""The command line, driven in this process where that is enough, else as the program it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from llama_bridge import Backend, registry
from llama_bridge.cli.app import app

from .screens import SECONDS, Open, Screen


class Run(Protocol):
    def __call__(self, *args: str | Path, given: str | bytes | None = None) -> Result: ...


class Program(Protocol):
    def __call__(
        self, *args: str, given: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


BACKENDS = """
from llama_bridge.testing import FakeAnswer, FakeBackend

WORDS = "The quick brown fox jumps over the lazy dog and runs away through internationalisation. "

def answer(asked):
    if "long" in asked.prompt:
        return FakeAnswer("blah " * 2000, token_seconds=0.02)
    if "slow" in asked.prompt:
        return FakeAnswer("word " * 30, token_seconds=0.02)
    if "fox" in asked.prompt:
        return FakeAnswer(WORDS * 3, token_seconds=0.0005)
    if "wide" in asked.prompt:
        return FakeAnswer("\u4f60\u597d\uff0c\u4e16\u754c\u3002" * 20)
    if "break" in asked.prompt:
        return FakeAnswer("half", fails_after=2)
    return FakeAnswer("I heard: " + asked.context.replace("\\n", "|"))

SLOW = FakeBackend(answer)
SLOW_PREFILL = FakeBackend(answer, prefill_token_seconds=0.005)
MESSAGES = FakeBackend(answer, prefill_token_seconds=0.005, lacks="kv_continuation")
"""


@pytest.fixture
def slow_backends(tmp_path: Path) -> dict[str, str]:
    """An environment with slow backends installed beside the real ones, and a home of its own."""
    site = tmp_path / "site"
    package = site / "slow_backends-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-backends\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[llama_bridge.backends]\n"
        "slow = slow_backends:SLOW\n"
        "slow_prefill = slow_backends:SLOW_PREFILL\n"
        "messages = slow_backends:MESSAGES\n"
    )
    (site / "slow_backends.py").write_text(BACKENDS)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def run() -> Run:
    """Run a command in this process; an exception that is no exit fails the test."""

    def invoke(*args: str | Path, given: str | bytes | None = None) -> Result:
        words = [str(arg) for arg in args]
        return CliRunner().invoke(app, words, input=given, catch_exceptions=False)

    return invoke


@pytest.fixture
def program() -> Program:
    """Run the command as a process of its own, in a pipe."""

    def execute(
        *args: str, given: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "llama_bridge", *args],
            input=given,
            capture_output=True,
            env=os.environ | (env or {}),
            timeout=SECONDS,
            check=False,
        )

    return execute


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Backend]], None]:
    """Make these the only backends that are installed, best first."""

    def install(backends: Sequence[Backend]) -> None:
        monkeypatch.setattr(registry, "backends", lambda: tuple(backends))

    return install


@pytest.fixture
def show(slow_backends: dict[str, str]) -> Iterator[Open]:
    """Show a command on a screen, with the slow backends unless it is told another."""
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            pytest.fail("no tmux; on Debian: apt-get install tmux", pytrace=False)
        pytest.skip("no tmux; on Debian: apt-get install tmux")
    screens: list[Screen] = []
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:  # a socket's path is short

        def start(*args: str, columns: int = 80, **env: str) -> Screen:
            env = slow_backends | {"LLAMA_BRIDGE_BACKEND": "slow"} | env
            command = [sys.executable, "-m", "llama_bridge", *args]
            place = os.path.join(folder, str(len(screens)))
            os.mkdir(place)
            screens.append(Screen(place, columns, command, env))
            return screens[-1]

        try:
            yield start
        finally:
            for screen in screens:
                screen.close()
