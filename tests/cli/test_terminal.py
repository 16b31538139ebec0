"""The command line at a pseudo-terminal, letter by letter, with a slow fake. The chat is in test_screen.py."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llama_bridge import registry
from tests.cli.screens import SECONDS

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal"),
    pytest.mark.slow,
]

CTRL_C = "\x03"

# Makes the pseudo-terminal the one that Ctrl-C is typed at.
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "llama_bridge", *sys.argv[1:]])
"""


class Session:
    """A running command and what it has shown so far."""

    def __init__(self, args: list[str], env: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | env,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Wait until something new matches; returns all that came up to its end."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = re.search(pattern, self.shown[self._seen :])
            if found:
                before, self._seen = self._seen, self._seen + found.end()
                return self.shown[before : self._seen]
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in:\n{self.shown[self._seen :]}"
            assert self._read(left), f"ended without {pattern!r}:\n{self.shown[self._seen :]}"

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def status(self) -> int:
        """Wait for the end of the command."""
        deadline = time.monotonic() + SECONDS
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown[self._seen :]}"
        return self._process.wait(timeout=SECONDS)

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._master)


Start = Callable[..., Session]


@pytest.fixture
def start(slow_backends: dict[str, str]) -> Iterator[Start]:
    """Start a command at a terminal."""
    running: list[Session] = []

    def run(*args: str, **env: str) -> Session:
        env = slow_backends | {"TERM": "xterm", "COLUMNS": "200"} | env
        running.append(Session(list(args), env))
        return running[-1]

    yield run
    for session in running:
        session.close()


def test_ctrl_c_in_run_keeps_the_session_file_as_it_is(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    first = start("run", "--backend", "slow", "--session", str(file), "hello")
    assert first.status() == 0
    before = file.read_bytes()
    second = start("run", "--backend", "slow", "--session", str(file), "a long one")
    second.wait_for("blah blah")
    second.type(CTRL_C)
    second.wait_for("is unchanged")
    assert second.status() == 130
    assert file.read_bytes() == before


def test_colours_at_a_terminal_unless_no_color_is_set(start: Start) -> None:
    coloured = start("info", "demo")
    assert coloured.status() == 0
    assert re.search(r"\x1b\[3\dm", coloured.shown)
    plain = start("info", "demo", NO_COLOR="1")
    assert plain.status() == 0
    assert not re.search(r"\x1b\[3\dm", plain.shown)


def test_without_a_prompt_a_person_gets_help_instead_of_silence(start: Start) -> None:
    run = start("run")
    assert run.status() == 2
    assert "give a prompt" in run.shown


def test_control_characters_of_a_model_do_not_reach_the_terminal(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "site" / "slow_backends.py").write_text(
        "from llama_bridge.testing import FakeBackend\nSLOW = FakeBackend('a\\x1b[2Jb')\n"
    )
    run = start("run", "--backend", "slow", "hi")
    assert run.status() == 0
    assert "a�[2Jb" in run.shown


def test_why_the_first_use_takes_seconds_is_told_to_who_waits(start: Start, tmp_path: Path) -> None:
    (wasm,) = (found for found in registry.probe_all() if found.name == "wasm")
    if not wasm.ok:
        pytest.skip(f"wasm: {wasm.reason}")
    for wanted in (True, False):
        session = start(
            "run", "--backend", "wasm", "Hello!", XDG_CACHE_HOME=str(tmp_path / "cache")
        )
        if wanted:
            session.wait_for(r"compiling llama\.wasm to machine code")
        assert session.status() == 0
        assert ("compil" in session.shown) is wanted
