"""Closed streams, full disks, readers that leave, Ctrl-C: no traceback, and the right exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.screens import SECONDS

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell"),
    pytest.mark.slow,
]

COMMAND = f"{sys.executable} -m llama_bridge"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
OUTPUTS = ("run hi", "info demo", "doctor", "demo", "chat < /dev/null", "--help", "run --help")


def shell(line: str, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", line.replace("llama-bridge", COMMAND)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | env,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture
def env(slow_backends: dict[str, str]) -> dict[str, str]:
    return slow_backends | {"LLAMA_BRIDGE_BACKEND": "slow"}


@pytest.mark.parametrize(
    ("args", "status"),
    [
        ("run hi", 0),
        ("-v run hi", 0),
        ("info demo", 0),
        ("info nowhere", 1),
        ("run --seed x hi", 2),
        ("nonsense", 2),
        ("chat <<< break", 1),
        ("run --help", 0),
    ],
)
def test_without_standard_error_all_else_is_as_with_it(
    env: dict[str, str], args: str, status: int
) -> None:
    with_it = shell(f"llama-bridge {args}", env)
    for stderr in ["2>&-", *["2>/dev/full"] * Path("/dev/full").exists()]:
        done = shell(f"llama-bridge {args} {stderr}", env)
        assert done.returncode == with_it.returncode == status
        # But for the memory that is free, of which info tells.
        assert _words(done.stdout) == _words(with_it.stdout)
        assert done.stderr == b""


def _words(said: bytes) -> bytes:
    return re.sub(rb"[\d.,\s]+", b" ", said)


@pytest.mark.parametrize("args", ["run hi", "info demo", "info nowhere", "chat", "run --json hi"])
def test_without_standard_output_it_fails_at_once_and_says_so(
    env: dict[str, str], args: str
) -> None:
    done = shell(f"llama-bridge {args} >&-", env)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: standard output is closed")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("closed", "status"), [("<&- >&- 2>&-", 1), ("<&- 2>&-", 0), ("<&-", 0)])
def test_what_is_written_never_lands_in_a_file_that_took_the_place_of_a_stream(
    env: dict[str, str], closed: str, status: int, tmp_path: Path
) -> None:
    line = f"llama-bridge -v run --session {tmp_path}/s hi {closed}"
    done = shell(line, env)
    assert b"Traceback" not in done.stderr
    assert done.returncode == status
    if status == 0:
        assert shell(f"llama-bridge session info {tmp_path}/s", env).returncode == 0


def test_without_standard_input_a_prompt_is_missing_and_a_chat_is_over(env: dict[str, str]) -> None:
    done = shell("llama-bridge run <&-", env)
    assert (done.returncode, done.stderr) == (1, b"error: prompt is empty: give some text\n")
    assert shell("llama-bridge chat <&-", env).returncode == 0


@FULL
@pytest.mark.parametrize("args", [*OUTPUTS, "run --json hi", "run --json -m nowhere hi", "-h"])
def test_a_full_disk_is_one_error(env: dict[str, str], args: str) -> None:
    if args.startswith("chat"):
        args = "chat <<< hi"
    done = shell(f"llama-bridge {args} > /dev/full", env)
    assert done.returncode == 1
    assert b"error: standard output: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@FULL
def test_a_full_disk_under_both_outputs_is_a_status(env: dict[str, str]) -> None:
    for args, status in (("info demo", 1), ("info nowhere", 1), ("run --seed x hi", 2)):
        assert shell(f"llama-bridge {args} > /dev/full 2>&1", env).returncode == status


@pytest.mark.parametrize("args", [*OUTPUTS, "-v run hi", "run --json hi", "run 'a long one'"])
def test_a_reader_that_leaves_is_no_error(env: dict[str, str], args: str) -> None:
    if args.startswith("chat"):
        args = "chat <<< $'hi\\nhi\\nhi'"
    done = shell(f"llama-bridge {args} | head -c 1; exit ${{PIPESTATUS[0]}}", env)
    assert done.returncode in (0, 1)  # 0 where all was written before it left
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert b"error" not in done.stderr
    both = shell(f"llama-bridge {args} 2>&1 | head -c 1; exit ${{PIPESTATUS[0]}}", env)
    assert both.returncode in (0, 1)


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (["run", "a long one"], "blah"),
        (["run", "--json", "a long one"], ""),
        (["chat"], ""),
        (["demo", "--backend", "slow_prefill"], "slow_prefill"),
        (["doctor"], "Python"),
    ],
)
def test_ctrl_c_ends_a_command_quietly(env: dict[str, str], args: list[str], seen: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_bridge", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | env,
    )
    assert process.stdout is not None
    read = b""
    while seen.encode() not in read:
        read += os.read(process.stdout.fileno(), 4096)
    time.sleep(0.0 if seen else 3)  # nothing tells from outside that it is at work
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert said.replace(b"\n", b"") == b""
    assert process.returncode == 130


def test_ctrl_c_in_a_pipe_ends_the_chat_and_not_only_the_answer(env: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_bridge", "chat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"a long one\nanother long one\n")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 4)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert shown.count(b"\n") == 1
    assert said == b""
