"""Runs the suite inside Pyodide, in a page or on Node, and tells each test's outcome as it comes.

These are the files that run on a desktop, not copies. What a page lacks is found out where a test needs it: a test
that starts a thread or a process *itself*, or imports what no page has, is gated there, with the reason. The
library is given no such grace: where it would start a thread in a page, the test fails.

Imported from the unpacked archive that :mod:`tests.browser.outside` makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["run"]

ABSENT = {
    "_multiprocessing": "processes",
    "anyio": "threads",
    "benchmarks": "the native backend",
    "build": "the build of llama.wasm",
    "edits": "the build of llama.wasm",
    "gguf": "numpy",
    "llama_cpp": "the native backend",
    "numpy": "numpy",
    "platformdirs": "the command line",
    "prompt_toolkit": "the command line",
    "resource": "processes",
    "tools": "numpy, for a model of its own",
    "tkinter": "a desktop",
    "wasm": "the build of llama.wasm",
    "wasmtime": "wasmtime",
    "xxhash": "session files",
}
"""Modules that no page has, and what a test that imports them needs."""

_TESTS = (
    "tests.",
    "llama_bridge.testing.conformance",
    "llama_bridge.testing.runtime_conformance",
)
"""Modules whose code is a test's own."""

_TERMINAL = "llama_bridge.cli."
"""The command line reads the keyboard while a thread works; no page has it."""

Tell = Callable[[str], None]


def run(folder: str, tell: Tell, *arguments: str) -> int:
    """Run the tests in ``folder``; pytest's exit status.

    Args:
        folder: where the archive was unpacked.
        tell: is given one JSON object for each test that ran or was gated, at once.
        arguments: for pytest; what is ``LLAMA_BRIDGE_...=value`` is for the environment.
    """
    arguments = tuple(word for word in arguments if not _is_variable(word))
    os.chdir(folder)
    sys.path.insert(0, folder)
    options = ["-p", "no:cacheprovider", "-p", "no:faulthandler", "--capture=sys", "-q", "-q"]
    with _Gates() as gates:
        return int(pytest.main([*options, *arguments], plugins=[gates, _Report(tell)]))


def _is_variable(word: str) -> bool:
    """Put it into the environment if it is for that."""
    name, is_one, value = word.partition("=")
    if is_one and name.startswith("LLAMA_BRIDGE_"):
        os.environ[name] = value
        return True
    return False


class _Gates:
    """Skips, with the reason, what cannot be tried here."""

    def __enter__(self) -> _Gates:
        self._kept = threading.Thread.start, subprocess.Popen.__init__
        start, popen = self._kept

        def start_thread(thread: threading.Thread) -> None:
            _gate("needs threads")
            start(thread)

        def start_process(process: Any, *args: Any, **kwargs: Any) -> None:
            _gate("needs processes")
            popen(process, *args, **kwargs)

        threading.Thread.start = start_thread  # type: ignore[assignment,method-assign]
        subprocess.Popen.__init__ = start_process  # type: ignore[assignment,method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        threading.Thread.start, subprocess.Popen.__init__ = self._kept  # type: ignore[method-assign]

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        # A module that cannot be imported is gated as a whole.
        if isinstance(collector, pytest.Module):
            try:
                collector.obj  # noqa: B018 -- imports it
            except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:
                if (needs := _absent(error.__cause__ or error.__context__)) is not None:
                    where = (str(collector.path), 0, f"Skipped: needs {needs}")
                    report = pytest.CollectReport(collector.nodeid, "skipped", where, [])
                    yield
                    return report
        return (yield)  # which imports it once more, and says what is wrong with it

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self) -> Generator[None, object, object]:
        with _shielded():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        with _shielded():
            return (yield)


class _Report:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed":
            self._say(report.nodeid, report, 0.0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._say(report.nodeid, report, report.duration)

    def _say(self, test: str, report: Any, seconds: float) -> None:
        why = ""
        if report.outcome == "skipped":
            why = report.longrepr[2].removeprefix("Skipped: ")
        elif report.outcome == "failed":
            why = str(report.longrepr)
        outcome = {"test": test, "outcome": report.outcome, "why": why, "seconds": seconds}
        self._tell(json.dumps(outcome))


def _gate(reason: str) -> None:
    """Skip if it is a test that asks, be it through a class of the standard library or of rich."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] not in (
            "threading",
            "subprocess",
            "multiprocessing",
            "concurrent",
            "rich",
        ):
            break
        frame = frame.f_back
    name = str(frame.f_globals.get("__name__"))
    if name.startswith(_TERMINAL):
        pytest.skip(f"the command line {reason}")
    if name.startswith(_TESTS):
        pytest.skip(reason)


@contextmanager
def _shielded() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (needs := _absent(error)) is None:
            raise
        pytest.skip(f"needs {needs}")


def _absent(error: BaseException | None) -> str | None:
    """What the test needs, if this says that its own import found no such module."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    return ABSENT.get(error.name) or ABSENT.get(error.name.partition(".")[0])


if __name__ == "__main__":  # FOLDER FILE OPTIONS...: outcomes go to the file, a line each
    with open(sys.argv[2], "w", buffering=1) as told:
        sys.exit(run(sys.argv[1], lambda line: print(line, file=told), *sys.argv[3:]))
