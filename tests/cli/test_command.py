"""What all commands share: help, errors, exit statuses, terminals and pipes of every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import __version__
from tests.cli.conftest import Program, Run
from tests.cli.screens import SECONDS

COMMANDS = ("demo", "chat", "run", "pull", "models", "rm", "doctor", "info", "session")


def test_help_names_every_command_and_what_to_start_with(run: Run) -> None:
    shown = run("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    assert "llama-bridge demo" in shown
    assert "Exit status" in shown
    assert "..." not in shown.partition("Commands:")[2]  # no summary is cut off


@pytest.mark.parametrize("command", [(c,) for c in COMMANDS] + [("session", "info")])
def test_each_command_has_help(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"llama-bridge, version {__version__}\n"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_command_prints_the_line_that_installs_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['llama-bridge', 'demo']\n"
        "from llama_bridge_command import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2
    assert done.stderr == 'the command line needs: pip install "llama-bridge[cli]"\n'
    assert done.stdout == ""


def test_importing_the_library_does_not_import_the_command_line() -> None:
    code = "import sys, llama_bridge; assert not {'click', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], timeout=SECONDS, check=True)


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["info", "nowhere.gguf"], 1, "error: nowhere.gguf: no such file"),
        (["chat", "nowhere.gguf"], 1, "error: nowhere.gguf: no such file"),
        (["info", __file__], 1, "this is a text file, not a GGUF file"),
        (["session", "info", __file__], 1, "this is a text file, not a session"),
        (["session", "info", "nowhere.session"], 1, "error: nowhere.session: no such file"),
        (["run", "--backend", "nonsense", "hi"], 1, "no backend of that name is installed"),
        (["run", "--max-tokens", "-4", "hi"], 2, "--max-tokens -4: must be a whole number"),
        (["run", "--temperature", "-1", "hi"], 2, "--temperature -1.0: must be a number from 0"),
        (["run", "--threads", "-1", "hi"], 2, "--threads -1: must be a whole number from 0"),
        (["run", "--n-ctx", "full", "hi"], 2, "'full' is neither a whole number nor 'auto'"),
        (["run", "--n-gpu-layers", "Auto", "hi"], 2, "'Auto' is neither a whole number nor"),
        (["chat", "--n-gpu-layers", "-2"], 2, "--n-gpu-layers -2: must be a whole number from -1"),
        (["run", "--backend", "wasm", "--n-ctx", str(1 << 24), "hi"], 1, "a smaller --n-ctx ("),
        (
            ["run", "--backend", "wasm", "--n-ctx", str(1 << 24), "hi"],
            1,
            "--type-k q8_0 --type-v q8_0",
        ),
        (["demo", "--n-ctx", "-1"], 2, "--n-ctx -1: must be a whole number from 0"),
        (["run", "--raw", "--system", "be kind", "hi"], 2, "--system needs the chat template"),
        (["run", "--session", "/nowhere/at/all", "hi"], 2, "no such folder: /nowhere/at"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["run", "--n-ctx", "8", "a long story " * 200], 1, "give --n-ctx "),
        (["run", ""], 1, "error: prompt is empty"),
    ],
)
def test_an_error_is_one_clear_message_and_a_status(
    run: Run, args: list[str], status: int, message: str
) -> None:
    result = run(*args)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_the_log_is_shown_on_request_wherever_it_is_asked_for(run: Run) -> None:
    quiet = run("run", "Hello!")
    assert quiet.exit_code == 0
    assert quiet.stderr == ""
    for args in (["-v", "run", "Hello!"], ["run", "-v", "Hello!"], ["-v", "run", "-v", "Hello!"]):
        result = run(*args)
        assert result.stdout == quiet.stdout
        lines = result.stderr.splitlines()
        assert any(line.startswith("DEBUG llama_bridge") for line in lines)
    assert run("run", "Hello!").stderr == ""  # it does not outlive its command


def test_a_reader_that_leaves_early_ends_the_command_quietly() -> None:
    pipe = subprocess.Popen(
        [sys.executable, "-m", "llama_bridge", "chat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert pipe.stdout is not None
    pipe.stdout.close()
    _, said = pipe.communicate(b"Hello!\n" * 3, timeout=SECONDS)
    assert pipe.returncode == 1
    lines = said.decode().splitlines()
    assert [line for line in lines if "cannot continue a conversation" not in line] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_and_no_traceback() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llama_bridge", "info", "demo"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"error: standard output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_unicode_gets_what_it_can_show(program: Program, encoding: str) -> None:
    done = program("doctor", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    shown = done.stdout.decode(encoding)
    assert "ok native" in shown or "ok wasm" in shown


def test_text_that_is_no_utf8_is_refused_by_name(program: Program) -> None:
    done = program("run", given=b"caf\xe9")
    assert done.returncode == 1
    assert done.stderr == b"error: standard input is not UTF-8 text\n"
    done = program("chat", given=b"caf\xe9\nHello!\n")
    assert done.stderr.endswith(b"error: that line is not UTF-8 text\n")
    assert done.stdout.strip()  # the next line is answered
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["run", "chat"])
def test_where_python_is_told_ascii_a_prompt_is_utf8(program: Program, command: str) -> None:
    with_ascii = program(
        command, given="Café?\n".encode(), env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    usual = program(command, given="Café?\n".encode())
    assert with_ascii.returncode == usual.returncode == 0, with_ascii.stderr
    assert with_ascii.stdout == usual.stdout


def test_text_in_another_encoding_is_read_in_it_and_refused_by_its_name(program: Program) -> None:
    env = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    assert program("run", given=b"Caf\xe9?", env=env).returncode == 0
    done = program("run", given=b"\x81", env=env)  # stands for nothing there
    assert (done.returncode, done.stderr) == (1, b"error: standard input is not CP1252 text\n")
    done = program("chat", given=b"\x81\n", env=env)
    assert done.stderr.endswith(b"error: that line is not CP1252 text\n")


def test_a_pipe_gets_no_colours_and_no_padding(program: Program) -> None:
    shown = program("info", "demo").stdout.decode()
    assert "\x1b" not in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())


def test_names_in_a_file_cannot_drive_the_terminal() -> None:
    from llama_bridge.cli.terminal import plain

    assert plain("a\x1b[2Jb\x07c\x9bd\re\x7f\tf\ng") == "a�[2Jb�c�d�e�\tf\ng"


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (2_640_096, "2.64 MB"),
        (999_700, "1 MB"),
        (4.2e9, "4.2 GB"),
        (5e13, "50 TB"),
    ],
)
def test_sizes_for_people(n_bytes: float, shown: str) -> None:
    from llama_bridge.cli.terminal import size

    assert size(n_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.00004, "0.0 ms"), (0.0021, "2.1 ms"), (0.0834, "83 ms"), (0.9999, "1.0 s"), (61, "61.0 s")],
)
def test_durations_for_people(seconds: float, shown: str) -> None:
    from llama_bridge.cli.terminal import duration

    assert duration(seconds) == shown
