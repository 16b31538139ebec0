"""Tables and remarks read well in a narrow terminal and in a wide one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from llama_bridge import Backend, BackendUnavailable
from llama_bridge.cli import terminal
from llama_bridge.cli.app import app
from llama_bridge.testing import FakeBackend, FakeLlama

Install = Callable[[Sequence[Backend]], None]
Show = Callable[..., list[str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """The lines that a command shows on a terminal of so many columns."""

    def run(columns: int, *args: str | Path) -> list[str]:
        def console(*, stderr: bool) -> Console:
            return Console(stderr=stderr, width=columns, force_terminal=True, no_color=True)

        monkeypatch.setattr(terminal, "_console", console)
        result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
        plain = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", result.stdout)
        return [line.rstrip() for line in plain.splitlines()]

    return run


def knows(lacks: Sequence[str] = ()) -> FakeBackend:
    def answer(asked: object) -> str:
        known = "Zorvane" in getattr(asked, "context", "")
        return "Your name is Zorvane." if known else "I do not know your name."

    return FakeBackend(answer, lacks=lacks)


@pytest.fixture
def several(installed: Callable[[Sequence[Backend]], None]) -> None:
    absent = FakeBackend(load_error=BackendUnavailable("absent", "not built", "make absent"))
    absent.name = "absent"
    installed([absent, knows(["kv_continuation", "session_persistence"])])


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("args", [("demo",), ("doctor",), ("info", "demo")])
def test_no_line_is_too_long_and_no_word_is_broken(
    show: Show, columns: int, args: tuple[str, ...]
) -> None:
    lines = show(columns, *args)
    assert max(map(len, lines)) <= columns
    if columns >= 40:  # a path may be longer than a row
        words = {word for line in lines for word in line.split()}
        wide = {word for line in show(1000, *args) for word in line.split() if len(word) < 20}
        timed = re.compile(r"\d|ms")
        assert not [word for word in wide - words if not timed.search(word)]


@pytest.mark.usefixtures("several")
def test_in_a_narrow_terminal_a_value_stands_below_its_name(show: Show) -> None:
    lines = show(40, "demo")
    told = lines.index("✓ generate_continue")
    assert lines[told + 1] == "    you:   What is my name?"
    assert lines[told + 2] == "    model: I do not know your name."
    lines = show(40, "info", "demo")
    assert lines[lines.index("architecture") + 1].startswith("    llama")


@pytest.mark.usefixtures("several")
def test_in_a_wide_terminal_a_value_stands_beside_its_name(show: Show) -> None:
    for columns in (80, 200):
        lines = show(columns, "demo")
        assert any(line.startswith("✓ generate_continue you:   What is") for line in lines)
        assert any(re.match(r"architecture +llama", line) for line in show(columns, "info", "demo"))


def test_a_short_table_stays_a_table_in_a_narrow_terminal(show: Show, tmp_path: Path) -> None:
    with FakeLlama() as llama:
        llama.generate("hello")
        llama.session_save(tmp_path / "s")
    lines = show(40, "session", "info", tmp_path / "s")
    assert max(map(len, lines)) <= 40
