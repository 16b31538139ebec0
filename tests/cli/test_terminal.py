"""The command line at a terminal: Ctrl-C, Ctrl-D, the line editor. On a pseudo-terminal, with a slow fake."""

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
from tests.cli.conftest import SECONDS

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal"),
    pytest.mark.slow,
]

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"

BACKENDS = """
from llama_bridge.testing import FakeAnswer, FakeBackend

def answer(asked):
    if "long" in asked.prompt:
        return FakeAnswer("blah " * 2000, token_seconds=0.02)
    return FakeAnswer("I heard: " + asked.context.replace("\\n", "|"))

SLOW = FakeBackend(answer)
SLOW_PREFILL = FakeBackend(answer, prefill_token_seconds=0.005)
"""

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
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command at a terminal, with two slow backends installed beside the real ones."""
    site = tmp_path / "site"
    package = site / "slow_backends-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-backends\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[llama_bridge.backends]\n"
        "slow = slow_backends:SLOW\n"
        "slow_prefill = slow_backends:SLOW_PREFILL\n"
    )
    (site / "slow_backends.py").write_text(BACKENDS)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    running: list[Session] = []

    def run(*args: str, **env: str) -> Session:
        env = {"PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "200", "INPUTRC": os.devnull} | env
        running.append(Session(list(args), env))
        return running[-1]

    yield run
    for session in running:
        session.close()


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(start: Start) -> None:
    chat = start("chat", "--backend", "slow")
    chat.wait_for("> ")
    chat.type("a long one\n")
    chat.wait_for("blah blah")
    chat.type(CTRL_C)
    assert "[cancelled]" in chat.wait_for("generated.*\n")
    chat.wait_for("> ")
    chat.type("and now?\n")
    answer = chat.wait_for("I heard: .*\n")
    assert "a long one" in answer
    assert "blah blah" in answer
    assert "and now?" in answer
    status = chat.wait_for("evaluated.*\n")
    assert "cancelled" not in status
    assert not status.startswith("0 cached")
    chat.wait_for("> ")
    chat.type(CTRL_D)
    assert chat.status() == 0


def test_ctrl_c_stops_a_prefill_and_keeps_the_conversation_before_it(start: Start) -> None:
    chat = start("chat", "--backend", "slow_prefill")
    chat.wait_for("> ")
    chat.type("first\n")
    chat.wait_for("evaluated.*\n")
    chat.wait_for("> ")
    began = time.monotonic()
    chat.type(("many words " * 300) + "\n")  # 16 seconds and more
    chat.wait_for("many words \n")
    time.sleep(0.3)
    chat.type(CTRL_C)
    status = chat.wait_for(r"\[cancelled\].*\n")
    assert time.monotonic() - began < 15
    assert " 0 generated" in status
    chat.wait_for("> ")
    chat.type("/stats\n")
    assert "2 messages" in chat.wait_for("last answer")
    chat.type("again\n")
    answer = chat.wait_for("I heard: .*\n")
    assert "first" in answer
    assert "many words" not in answer


def test_ctrl_c_drops_a_half_typed_line_and_leaves_at_an_empty_one(start: Start) -> None:
    pytest.importorskip("readline")
    chat = start("chat", "--backend", "slow")
    chat.wait_for("> ")
    chat.type("half typed")
    chat.wait_for("half typed")
    time.sleep(1)  # the terminal may echo before the line editor has taken the keys
    chat.type(CTRL_C)
    chat.wait_for("> ")
    chat.type("whole\n")
    assert "half typed" not in chat.wait_for("I heard: .*\n")
    chat.wait_for("> ")
    # Python shows the prompt a little before it waits for keys: a signal in between is seen with the next one.
    time.sleep(1)
    chat.type(CTRL_C)
    assert chat.status() == 0


def test_the_line_editor_has_a_history(start: Start) -> None:
    pytest.importorskip("readline")
    chat = start("chat", "--backend", "slow")
    chat.wait_for("> ")
    chat.type("remember me\n")
    chat.wait_for("evaluated.*\n")
    chat.wait_for("> ")
    chat.type(UP + "\n")
    assert chat.wait_for("I heard: .*\n").count("remember me") >= 2


def test_ctrl_c_in_run_keeps_the_session_file_as_it_is(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    first = start("run", "--backend", "slow", "--session", str(file), "hello")
    assert first.status() == 0
    before = file.read_bytes()
    second = start("run", "--backend", "slow", "--session", str(file), "a long one")
    second.wait_for("blah blah")
    second.type(CTRL_C)
    second.wait_for("left as it was")
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
