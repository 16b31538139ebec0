"""The suite itself, run inside Pyodide: in Chromium and in Firefox. ``make pyodide`` runs it on Node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.browser import fetch
from tools.browser.browsers import BROWSERS, find

from .conftest import Report
from .enough import MUST_RUN_IN_BROWSERS, check
from .outside import FIREFOX_OPTIONS, OPTIONS, Outcome, lay_out, run_in_browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Missing = Callable[[str], None]


@pytest.fixture(scope="session")
def suites(tmp_path_factory: pytest.TempPathFactory, missing: Missing) -> dict[str, Path]:
    """The sites that run it, by browser."""
    options = {"chromium": OPTIONS, "firefox": FIREFOX_OPTIONS}
    try:
        return {
            name: lay_out(tmp_path_factory.mktemp(name), some) for name, some in options.items()
        }
    except fetch.FetchError as error:
        missing(str(error))
        raise


@pytest.fixture(scope="module")
def outcomes(suites: dict[str, Path]) -> Iterator[dict[str, Future[Outcome]]]:
    """What becomes of the suite in each browser; both run at a time, on two cores in half the time."""
    pool = ThreadPoolExecutor(2)
    running = {name: pool.submit(_run, name, suites[name]) for name in BROWSERS if find(name)}
    yield running
    pool.shutdown(cancel_futures=True)


def _run(browser: str, suite: Path) -> Outcome:
    """The suite in a browser; one that stands still, as Firefox does now and then, is opened anew, and that is told."""
    try:
        return run_in_browser(browser, suite, seconds=270)
    except TimeoutError as error:
        outcome = run_in_browser(browser, suite, seconds=270)
        outcome.host += f", at the second try ({error})"
        return outcome


@pytest.mark.parametrize("browser", BROWSERS)
def test_what_runs_on_a_desktop_runs_in_a_page(
    browser: str, outcomes: dict[str, Future[Outcome]], missing: Missing, report: Report
) -> None:
    if browser not in outcomes:
        missing(f"{browser} is not installed")
    outcome = outcomes[browser].result()
    report(outcome)
    check(outcome, browser, *MUST_RUN_IN_BROWSERS)
