"""A hint is what works here: on a machine where the better backend is not there, nothing sends anybody to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import Backend, BackendUnavailable, EngineError
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeBackend
from tests.cli.conftest import Run

Install = Callable[[Sequence[Backend]], None]
LACKS = ("kv_continuation", "session_persistence", "session_tools")


def named(name: str, backend: FakeBackend) -> FakeBackend:
    backend.name = name
    return backend


def poor_alone() -> list[Backend]:
    """As where llama-cpp-python is not installed."""
    unavailable = BackendUnavailable("able", "not installed", "pip install able")
    return [
        named("able", FakeBackend(load_error=unavailable)),
        named("poor", FakeBackend("I do not know your name.", lacks=LACKS)),
    ]


@pytest.mark.parametrize(
    ("args", "given"),
    [
        (("run", "--session", "x.session", "hi"), ""),
        (("session", "verify", "x.session"), ""),
    ],
)
def test_what_cannot_be_done_here_is_refused_without_a_way_that_fails(
    run: Run, installed: Install, tmp_path: Path, args: tuple[str, ...], given: str
) -> None:
    installed(poor_alone())
    words = [str(tmp_path / word) if word == "x.session" else word for word in args]
    result = run(*words, given=given.replace(" x", f" {tmp_path / 'x'}"))
    assert result.exit_code == 1
    assert "is not supported by the poor backend" in result.stderr
    assert "--backend" not in result.stderr
    assert "(able has it, but not installed)\nto get it: pip install able\n" in result.stderr
    assert not any(path.name.startswith("x") for path in tmp_path.iterdir())


def test_with_the_better_backend_there_the_hint_leads_to_it_and_works(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([named("poor", FakeBackend(lacks=LACKS)), named("able", FakeBackend())])
    args = ("run", "--session", str(tmp_path / "x"), "hi")
    refused = run(*args)
    assert refused.stderr.endswith("\ntry --backend able\n")
    assert run(*args, "--backend", "able").exit_code == 0


def test_a_chat_can_do_everything_with_any_backend(run: Run, installed: Install) -> None:
    installed(poor_alone())
    result = run("chat", given="/help\nHi\n/regenerate\n/fork b\n/switch main\n/undo\n")
    assert result.exit_code == 0, result.stderr
    assert "not with" not in result.stdout
    installed([FakeBackend()])
    assert "(not with" not in run("chat", given="/help\n").stdout


def test_doctor_lists_no_flags_of_a_backend_that_does_not_work(
    run: Run, installed: Install
) -> None:
    broken = named("broken", FakeBackend(load_error=EngineError("no such instruction")))
    installed([*poor_alone(), broken])
    able, poor, lost = json.loads(run("doctor", "--json").stdout)["backends"]
    assert able["capabilities"] == lost["capabilities"] == []
    assert "generate" in poor["capabilities"]
    shown = run("doctor").stdout
    assert shown.count("  can ") == 1
    assert "session_persistence" not in shown


def test_the_demo_ends_with_what_can_be_done_here(run: Run, installed: Install) -> None:
    installed(poor_alone())
    result = run("demo")
    assert result.exit_code == 0, result.stdout
    assert "\n  llama-bridge chat              " in result.stdout
    assert "/save" not in result.stdout
    installed([FakeBackend(lambda asked: "Zorvane!" * ("Zorvane" in asked.context) or "?")])
    assert "/save and /load keep the conversation" in run("demo").stdout


def test_the_demo_of_another_backend_or_model_leads_to_that_one(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    knows = FakeBackend(lambda asked: "Zorvane!" * ("Zorvane" in asked.context) or "?")
    installed([named("best", FakeBackend()), named("other", knows)])
    model = tmp_path / "my model.gguf"
    model.write_bytes(open_model("demo").path.read_bytes())
    shown = run("demo", "--backend", "other", "--model", model).stdout
    assert f"llama-bridge chat --backend other '{model}'" in shown
    assert "MODEL.gguf" not in shown
    assert "--name" not in shown


def test_a_system_message_without_a_template_is_refused_in_words_of_the_shell(
    run: Run, installed: Install
) -> None:
    installed([FakeBackend(lacks="chat_template")])
    for args in (("run", "--system", "be kind", "hi"), ("chat", "--system", "be kind")):
        result = run(*args, given="hi\n")
        assert result.exit_code == 1
        assert result.stderr == (
            "error: this model has no chat template, so it cannot take a system message\n"
        )
        assert result.stdout == ""


def test_a_model_and_a_session_that_were_mixed_up_lead_to_the_right_command(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([FakeBackend()])
    session, model = tmp_path / "my talk", open_model("demo").path
    assert run("run", "--session", session, "hi").exit_code == 0
    for args in (
        ("session", "info", model),
        ("session", "verify", model),
        ("run", "--session", model, "hi"),
    ):
        result = run(*args)
        assert result.exit_code == 1
        assert f"{model}: this is a model file (GGUF), not a session\n" in result.stderr
        assert f"llama-bridge chat {model} talks to it" in result.stderr
    for command in (("info",), ("chat",), ("demo", "--model")):
        result = run(*command, session)
        assert result.exit_code == 1
        assert f"{session}: this is a saved session, not a GGUF file\n" in result.stderr
        assert f"llama-bridge session info '{session}' shows" in result.stderr
        assert result.stdout == ""
    assert "of a context" in run("session", "info", session).stdout
