"""``--json`` is JSON also where the command fails: one object with type, message and hint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import Backend
from llama_bridge.testing import FakeAnswer, FakeBackend
from tests.cli.conftest import Run

Install = Callable[[Sequence[Backend]], None]


@pytest.mark.parametrize(
    ("args", "status", "kind", "message"),
    [
        (["run", "--json", "-m", "nowhere.gguf", "hi"], 1, "ModelNotFound", "no such file"),
        (["run", "--json", "break"], 1, "EngineError", "the fake failed"),
        (["run", "hi", "--json", "--backend", "none"], 1, "BackendUnavailable", "no backend of"),
        (["run", "--json", "--n-ctx", "8", "a story " * 99], 1, "ContextOverflow", "do not fit"),
        (["run", "--json", ""], 1, "InvalidInput", "prompt is empty"),
        (["run", "--json", "--session", __file__, "hi"], 1, "SessionCorrupt", "a text file"),
        (["run", "--json", "--temperature", "-1", "hi"], 2, "UsageError", "--temperature -1.0"),
        (["run", "--seed", "x", "--json", "hi"], 2, "BadParameter", "'x' is not a valid int"),
        (["run", "--nonsense", "--json", "hi"], 2, "NoSuchOption", "--nonsense"),
        (["run", "--json", "--session", "/nowhere/at/all", "hi"], 2, "BadParameter", "no such"),
        (["info", "--json", "nowhere.gguf"], 1, "ModelNotFound", "no such file"),
        (["info", "--json"], 2, "MissingParameter", "Missing"),
        (["session", "info", "--json", "nowhere"], 1, "SessionNotFound", "no such file"),
        (["session", "verify", "nowhere", "--json"], 1, "SessionNotFound", "no such file"),
        (["demo", "--json", "--model", "nowhere.gguf"], 1, "ModelNotFound", "no such file"),
        (["demo", "--json", "--name", " "], 2, "BadParameter", "give a name"),
    ],
)
def test_a_failure_is_one_json_object(
    run: Run, installed: Install, args: list[str], status: int, kind: str, message: str
) -> None:
    installed([FakeBackend({"break": FakeAnswer("half", fails_after=2)})])
    result = run(*args)
    assert result.exit_code == status
    record = json.loads(result.stdout)
    assert list(record) == ["error"]
    assert set(record["error"]) == {"type", "message", "hint"}
    assert record["error"]["type"] == kind
    assert message in record["error"]["message"]
    plain = run(*(arg for arg in args if arg != "--json"))
    assert plain.exit_code == status
    assert "{" not in plain.stdout
    assert record["error"]["message"] in result.stderr  # people are told as before
    assert plain.stderr == result.stderr


def test_the_hint_stands_by_itself(run: Run, installed: Install, tmp_path: Path) -> None:
    poor, able = FakeBackend(lacks="session_persistence"), FakeBackend()
    poor.name, able.name = "poor", "able"
    installed([poor, able])
    record = json.loads(run("run", "--json", "--session", tmp_path / "s", "hi").stdout)["error"]
    assert record["hint"] == "try --backend able"
    assert "try" not in record["message"]
    installed([FakeBackend()])
    record = json.loads(run("run", "--json", "--n-ctx", "8", "a story " * 99).stdout)["error"]
    assert "--n-ctx" in record["hint"]
    record = json.loads(run("run", "--json", "--backend", "able", "hi").stdout)["error"]
    assert record["hint"] == "or use one that is available here: fake"
    assert "\n" not in record["message"]


def test_a_prompt_that_is_called_like_the_option_is_a_prompt(run: Run, installed: Install) -> None:
    installed([FakeBackend()])
    assert run("run", "--", "--json").stdout == "You said: --json\n"
    assert run("run", "-m", "nowhere.gguf", "--", "--json").stdout == ""
