"""``llama-bridge chat`` through a pipe: each line a turn or a command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import Backend
from llama_bridge.testing import Asked, FakeAnswer, FakeBackend
from tests.cli.conftest import Program, Run

Install = Callable[[Sequence[Backend]], None]


def heard(asked: Asked) -> str:
    """Answers with all that the conversation holds."""
    return asked.context.replace("\n", "|")


def test_one_conversation_on_the_demo_model(run: Run, llama_backend: str) -> None:
    lines = "My name is Zorblax.\n\nWhat is my name?\n/stats\n/reset\nWhat is my name?\n"
    result = run("chat", "--backend", llama_backend, given=lines)
    assert result.exit_code == 0
    assert result.stderr == ""
    told, asked, *stats, reset, again = result.stdout.splitlines()
    assert "Zorblax" in told
    assert "Zorblax" in asked
    (cost,) = (line for line in stats if line.startswith("last answer"))
    found = re.search(r"(\d+) cached \+ (\d+) evaluated tokens", cost)
    assert found is not None
    assert int(found[1]) > int(found[2]), "only the new turn is evaluated"
    assert "forgotten" in reset
    assert "Zorblax" not in again


def test_a_saved_conversation_is_remembered_in_another_chat(
    run: Run, llama_backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "talk"
    lines = f"My name is Zorblax.\n/save {file}\n"
    assert run("chat", "--backend", llama_backend, given=lines).exit_code == 0
    result = run("chat", "--backend", llama_backend, given=f"/load {file}\nWhat is my name?\n")
    assert result.exit_code == 0
    loaded, answer = result.stdout.splitlines()
    assert loaded.endswith("2 messages")
    assert "Zorblax" in answer


def test_a_program_in_a_pipe_answers_line_by_line(program: Program) -> None:
    done = program("chat", given=b"Hello!\r\nThanks!\r\n/quit\nnever read\n")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert b">" not in done.stdout  # no prompt


def test_a_conversation_is_saved_and_loaded(run: Run, installed: Install, tmp_path: Path) -> None:
    installed([FakeBackend(heard)])
    file = tmp_path / "a talk.session"
    assert run("chat", given=f"remember this\n/save {file}\n").exit_code == 0
    assert file.exists()
    result = run("chat", given=f'/load "{file}"\nand this\n')
    assert result.exit_code == 0
    loaded, answer = result.stdout.splitlines()
    assert loaded.endswith("2 messages")
    assert "remember this" in answer
    assert "and this" in answer


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/nonsense", "no command /nonsense: /help lists them"),
        ("/save", "give a file: /save FILE"),
        ("/load nowhere.session", "nowhere.session: no such file"),
        ("/save /nowhere/at/all", "cannot be written"),
        ("x" * 300, "tokens do not fit the context of 200"),
    ],
)
def test_an_error_is_shown_and_the_conversation_goes_on(
    run: Run, installed: Install, line: str, message: str
) -> None:
    installed([FakeBackend(heard)])
    lines = f"first\n{line}\nsecond\n"
    result = run("chat", "--n-ctx", "200", given=lines)
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert result.exit_code == 1  # a script learns that not all went well
    assert result.stdout.splitlines()[-1].count("first") >= 1
    assert "second" in result.stdout.splitlines()[-1]


def test_what_a_backend_cannot_do_is_refused_with_the_way_out(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    able = FakeBackend()
    able.name = "able"
    installed([FakeBackend(heard, lacks="session_persistence"), able])
    result = run("chat", given=f"first\n/save {tmp_path / 'x'}\nsecond\n")
    assert "session_persistence is not supported" in result.stderr
    assert "try --backend able" in result.stderr
    assert "first" in result.stdout.splitlines()[-1]
    assert not (tmp_path / "x").exists()


def test_nothing_to_save_is_said(run: Run, installed: Install, tmp_path: Path) -> None:
    installed([FakeBackend()])
    result = run("chat", given=f"/save {tmp_path / 'x'}\n")
    assert "there is no session to save" in result.stderr


def test_an_engine_that_fails_is_an_error_of_one_turn(run: Run, installed: Install) -> None:
    installed([FakeBackend(["fine", FakeAnswer("half", fails_after=2), "fine again"])])
    result = run("chat", given="a\nb\nc\n")
    assert "the fake failed" in result.stderr
    assert result.stdout.splitlines() == ["fine", "ha", "fine again"]


def test_a_line_that_begins_with_a_slash_can_be_said_too(run: Run, installed: Install) -> None:
    installed([FakeBackend()])
    assert run("chat", given="//save me\n").stdout == "You said: /save me\n"


def test_a_model_without_template_is_told_about(run: Run, installed: Install) -> None:
    installed([FakeBackend(lacks="chat_template")])
    result = run("chat", given="Once upon\n")
    assert "no chat template" in result.stderr
    assert result.exit_code == 0


def test_stats_and_help(run: Run, installed: Install) -> None:
    installed([FakeBackend("abc")])
    shown = run("chat", "--n-ctx", "500", given="hello\n/stats\n/help\n").stdout
    assert "of 500 tokens used" in shown
    assert "2 messages" in shown
    assert "0 cached + " in shown
    for command in ("/save FILE", "/load FILE", "/reset", "/stats", "/quit"):
        assert f"\n{command} " in shown
