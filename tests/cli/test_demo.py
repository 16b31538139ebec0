"""``llama-bridge demo``: right where all is right, and it says which check failed where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from llama_bridge import (
    Backend,
    BackendUnavailable,
    Capability,
    EngineError,
)
from llama_bridge.cli.walkthrough import says
from llama_bridge.registry import candidates
from llama_bridge.testing import Asked, FakeBackend
from tests.cli.conftest import Program, Run

Install = Callable[[Sequence[Backend]], None]
CALLS = [
    "LlamaBridge",
    "generate",
    "generate_continue",
    "session_save",
    "LlamaBridge",
    "session_load",
    "generate_continue",
    "session_reset",
    "generate_continue",
]


def remembers(asked: Asked) -> str:
    """Answers as the demo model does, from what the KV cache holds."""
    return "Your name is Zorvane." if "Zorvane" in asked.context else "I do not know your name."


def knew(run: dict[str, Any]) -> list[bool]:
    """Whether the name was said, each of the three times it was asked for."""
    steps = [step for step in run["steps"] if step["call"] == "generate_continue"]
    return ["Zorvane" in step["text"] for step in steps]


def test_a_backend_does_what_its_flags_say_on_the_demo_model(run: Run, llama_backend: str) -> None:
    result = run("demo", "--backend", llama_backend, "--name", "Zorvane", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0, result.stdout
    assert result.stderr == ""
    assert record["ok"] is True
    (found,) = record["backends"]
    assert [step["call"] for step in found["steps"]] == CALLS
    assert all(check["ok"] for step in found["steps"] for check in step["checks"])

    (backend,) = candidates(llama_backend)
    continues = Capability.KV_CONTINUATION in backend.capabilities
    persists = Capability.SESSION_PERSISTENCE in backend.capabilities
    assert knew(found) == [continues, continues and persists, False]
    _, told, asked, saved, _, loaded, again, _, forgotten = found["steps"]
    assert saved["refused"] is loaded["refused"] is (not persists)
    assert (asked["mode"] == "continued") is continues
    told_tokens = told["usage"]["prompt_tokens"]
    assert (asked["usage"]["cached_tokens"] > told_tokens) is continues
    assert (again["usage"]["cached_tokens"] > 0) is (continues and persists)
    assert forgotten["usage"]["cached_tokens"] == 0
    assert forgotten["fallback"]


def test_the_transcript_of_all_backends(program: Program) -> None:
    done = program("demo", env={"PYTHONIOENCODING": "utf-8"})
    shown = done.stdout.decode()
    assert done.returncode == 0, shown
    assert done.stderr == b""  # no raw FallbackWarning, no log
    assert shown.startswith("What this shows: ")
    assert "Everything was right" in shown
    assert "\nNext:\n  llama-bridge chat " in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "lacks", ["", "kv_continuation", "session_persistence", "prefix_cache", "all three"]
)
def test_every_combination_of_flags_is_judged_by_what_it_promises(
    run: Run, installed: Install, lacks: str
) -> None:
    every = ["kv_continuation", "session_persistence", "prefix_cache"]
    missing = every if lacks == "all three" else [flag for flag in every if flag == lacks]
    installed([FakeBackend(remembers, lacks=missing)])
    record = json.loads(run("demo", "--json").stdout)
    assert record["ok"] is True, record
    continues, persists = "kv_continuation" not in missing, "session_persistence" not in missing
    assert knew(record["backends"][0]) == [continues, continues and persists, False]


def test_a_fallback_and_a_refusal_are_shown_with_their_reasons(
    run: Run, installed: Install
) -> None:
    installed([FakeBackend(remembers, lacks=["kv_continuation", "session_persistence"])])
    result = run("demo")
    assert result.exit_code == 0
    assert (
        "fresh, because this backend cannot continue a conversation (kv_continuation)"
        in result.stdout
    )
    assert "session_save      refused: session_persistence is not supported" in result.stdout
    assert "model: I do not know your name." in result.stdout
    assert "kv_continuation no, session_persistence no" in result.stdout


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I forgot.", "expected the answer names Zorvane; saw: I forgot."),
        ("You are Zorvane!", "expected the answer does not name Zorvane; saw: You are Zorvane!"),
    ],
)
def test_a_wrong_answer_fails_and_names_the_check(
    run: Run, installed: Install, answer: str, expected: str
) -> None:
    installed([FakeBackend(answer)])
    result = run("demo")
    assert result.exit_code == 1
    assert f"wrong: {expected}" in result.stdout
    assert "Not everything was right: see fake above." in result.stdout
    assert "Everything was right" not in result.stdout


def test_a_backend_that_breaks_is_reported_and_the_others_still_run(
    run: Run, installed: Install
) -> None:
    broken = FakeBackend(remembers, load_error=EngineError("the engine is lost"))
    broken.name = "broken"
    installed([broken, FakeBackend(remembers)])
    result = run("demo")
    assert result.exit_code == 1
    assert "stopped here: the engine is lost" in result.stdout
    assert "see broken above" in result.stdout
    record = json.loads(run("demo", "--json").stdout)
    assert [run["ok"] for run in record["backends"]] == [False, True]
    assert record["backends"][0]["error"] == "the engine is lost"


def test_a_backend_that_is_not_available_is_listed_with_reason_and_hint(
    run: Run, installed: Install
) -> None:
    absent = FakeBackend(load_error=BackendUnavailable("absent", "not built", "make absent"))
    absent.name = "absent"
    installed([absent, FakeBackend(remembers)])
    result = run("demo")
    assert result.exit_code == 0
    assert "absent: not available here: not built" in result.stdout
    assert "to get it: make absent" in result.stdout

    installed([absent])
    result = run("demo")
    assert result.exit_code == 1
    assert "not built" in result.stderr
    assert "make absent" in result.stderr


@pytest.mark.parametrize("name", ["", "  ", "name", "What"])
def test_a_name_that_proves_nothing_is_refused(run: Run, name: str) -> None:
    result = run("demo", "--name", name)
    assert result.exit_code == 2
    assert "--name" in result.stderr


def test_a_name_is_looked_for_as_a_word_of_its_own() -> None:
    assert says("Your name is zorvane!", "Zorvane")
    assert says("Hi A.B.", "a.b.")
    assert not says("Your name is Zorvanes.", "Zorvane")
    assert not says("Your name is A-B.", "A.B")
