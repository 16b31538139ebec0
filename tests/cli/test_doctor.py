"""``llama-bridge doctor``: what works, why the rest does not, and what to do about it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence

import pytest

from llama_bridge import Backend, BackendUnavailable, EngineError, __version__, registry
from llama_bridge.testing import FakeBackend
from tests.cli.conftest import Run

Install = Callable[[Sequence[Backend]], None]


def test_every_available_backend_loads_and_answers(run: Run) -> None:
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert report["ok"] is True
    assert result.exit_code == 0
    assert report["llama_bridge"] == __version__
    assert report["python"] == platform.python_version()
    states = {state.name: state for state in registry.probe_all(servers=True)}
    assert [found["name"] for found in report["backends"]] == list(states)
    for found in report["backends"]:
        if found["name"] == "remote" and states["remote"].ok:
            assert (found["tried"], found["reason"]) == (False, "no server is named")
        elif states[found["name"]].ok:
            assert found["works"], found
            assert found["load_seconds"] > 0
            assert found["answer_seconds"] > 0
            assert "generate" in found["capabilities"]
            assert found["engine"]
        else:
            assert found["reason"]


def test_each_backend_is_shown_with_what_to_do(run: Run, installed: Install) -> None:
    absent = FakeBackend(load_error=BackendUnavailable("absent", "not built", "make absent"))
    absent.name = "absent"
    broken = FakeBackend(load_error=EngineError("no such instruction"))
    broken.name = "broken"
    installed([absent, broken, FakeBackend(lacks="session_persistence")])
    result = run("doctor")
    assert result.exit_code == 0
    blocks = {b.split(":")[0].split()[-1]: b for b in result.stdout.split("\n\n")}
    assert "not available" in blocks["absent"]
    assert "not built" in blocks["absent"]
    assert "make absent" in blocks["absent"]
    assert "does not work" in blocks["broken"]
    assert "no such instruction" in blocks["broken"]
    assert "fake: works" in blocks["fake"]
    assert "kv_continuation" in blocks["fake"]
    assert "session_persistence" not in blocks["fake"]
    assert "Used by default: fake" in result.stdout


@pytest.mark.parametrize("backends", [[], [FakeBackend(load_error=EngineError("broken"))]])
def test_the_status_tells_that_nothing_works(
    run: Run, installed: Install, backends: list[Backend]
) -> None:
    installed(backends)
    result = run("doctor")
    assert result.exit_code == 1
    assert "No backend works here." in result.stdout


@pytest.mark.parametrize(
    ("value", "said"),
    [("fake", "Used by default: fake"), ("nonsense", "names 'nonsense', which does not work")],
)
def test_the_environment_is_shown_and_checked(
    run: Run, installed: Install, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    best = FakeBackend()
    best.name = "best"
    installed([best, FakeBackend()])
    monkeypatch.setenv(registry.ENVIRONMENT, value)
    result = run("doctor")
    assert f"{registry.ENVIRONMENT}  {value}" in result.stdout
    assert said in result.stdout
