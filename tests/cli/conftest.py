"""The command line, driven in this process where that is enough, else as the program it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from llama_bridge import Backend, registry
from llama_bridge.cli.app import app

SECONDS = 120
"""For what takes under a second here, on a machine that is busy with something else."""


class Run(Protocol):
    def __call__(self, *args: str | Path, given: str | bytes | None = None) -> Result: ...


class Program(Protocol):
    def __call__(
        self, *args: str, given: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


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
