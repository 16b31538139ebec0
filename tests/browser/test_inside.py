"""What gates tests in a page: a test's own wants, never the library's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from . import inside
from .enough import check
from .outside import Outcome

START = "import threading\ndef go():\n    threading.Timer(0, print).start()"


def function(module: str) -> Any:
    names: dict[str, Any] = {"__name__": module}
    exec(START, names)
    return names["go"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("tests.bridge.test_life", "needs threads"),
        ("llama_bridge.testing.conformance", "needs threads"),
        ("llama_bridge.cli.streaming", "the command line needs threads"),
    ],
)
def test_a_test_that_starts_a_thread_is_gated(module: str, reason: str) -> None:
    with inside._Gates(), pytest.raises(pytest.skip.Exception, match=f"^{reason}$"):
        function(module)()


def test_a_library_that_starts_a_thread_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    with inside._Gates():
        function("llama_bridge.conversation")()
    assert len(started) == 1
    function("tests.bridge.test_life")()
    assert len(started) == 2, "outside the run nothing is gated"


def test_only_what_no_page_has_is_a_reason() -> None:
    for error, reason in [
        (ModuleNotFoundError(name="numpy"), "needs numpy"),
        (ModuleNotFoundError(name="wasmtime._ffi"), "needs wasmtime"),
    ]:
        with pytest.raises(pytest.skip.Exception, match=reason), inside._shielded():
            raise error
    for other in (ModuleNotFoundError(name="rich"), OSError()):
        with pytest.raises(type(other)), inside._shielded():
            raise other


def test_a_run_of_nothing_is_a_failure() -> None:
    with pytest.raises(AssertionError):
        check(Outcome("nowhere", status=0), at_least=0)
