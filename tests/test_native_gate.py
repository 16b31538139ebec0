"""A test that asks for the native backend in vain is skipped, with a reason; in CI never unseen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_bridge import BackendUnavailable
from tests import native_gate


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_gate, "_missing", lambda: "llama-cpp-python is not installed")


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_gate, "_missing", lambda: None)


def config(named: str | None) -> Any:
    return SimpleNamespace(getoption=lambda option: {"--llama-backend": named}[option])


def fail_with(hook: Any, error: Exception) -> None:
    running = hook()
    next(running)
    running.throw(error)


HOOKS = pytest.mark.parametrize(
    "hook", [native_gate.pytest_pyfunc_call, native_gate.pytest_runtest_setup]
)


@HOOKS
@pytest.mark.usefixtures("absent")
def test_without_native_a_test_that_asks_for_it_is_skipped_with_the_reason(hook: Any) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^needs the native backend$"):
        fail_with(hook, BackendUnavailable("native", "not installed"))


@HOOKS
@pytest.mark.usefixtures("absent")
def test_without_native_nothing_else_is_a_reason(hook: Any) -> None:
    for error in (BackendUnavailable("wasm", "no"), BackendUnavailable("auto", "no"), OSError()):
        with pytest.raises(type(error)):
            fail_with(hook, error)


@HOOKS
@pytest.mark.usefixtures("present")
def test_where_native_is_its_failure_is_a_failure(hook: Any) -> None:
    with pytest.raises(BackendUnavailable):
        fail_with(hook, BackendUnavailable("native", "cannot be loaded"))


@pytest.mark.usefixtures("absent")
def test_in_ci_a_run_without_native_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.UsageError, match=r"not installed.*--llama-backend wasm"):
        native_gate.pytest_configure(config(None))
    native_gate.pytest_configure(config("wasm"))
    monkeypatch.delenv("CI")
    native_gate.pytest_configure(config(None))


@pytest.mark.usefixtures("present")
def test_in_ci_with_native_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    native_gate.pytest_configure(config(None))
