"""What the tests of pages share: a report of what ran where, and the right to be left out outside CI."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

_REPORTS = pytest.StashKey[list[str]]()

Report = Callable[[object], None]


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Takes what is to be read at the end of the run, whatever came out."""
    reports = pytestconfig.stash.setdefault(_REPORTS, [])
    return lambda text: reports.append(str(text))


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Skips a test for want of something; in CI nothing may be missing."""

    def tell(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(what, pytrace=False)
        pytest.skip(what)

    return tell


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the reports."""
    for text in config.stash.get(_REPORTS, []):
        terminalreporter.section("the suite in Pyodide")
        terminalreporter.write_line(text)
