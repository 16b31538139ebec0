"""What the tests of pages share: a report of what ran where, and the right to be left out outside CI."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

_REPORT = "the suite in Pyodide"

Report = Callable[[object], None]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Takes what is to be read at the end of the run, whatever came out; from a worker of xdist, too."""
    return lambda text: record_property(_REPORT, str(text))


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Skips a test for want of something; in CI nothing may be missing."""

    def tell(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(what, pytrace=False)
        pytest.skip(what)

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the reports."""
    for outcome in ("passed", "failed"):
        for test in terminalreporter.getreports(outcome):
            for name, text in test.user_properties:
                if name == _REPORT and test.when == "call":
                    terminalreporter.section(_REPORT)
                    terminalreporter.write_line(text)
