"""The suite itself, run inside Pyodide: in Chromium, in Firefox and on Node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.browser import fetch
from tools.browser.browsers import BROWSERS, find

from .conftest import Report
from .outside import ROOT, Outcome, lay_out, run_in_browser, run_on_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Missing = Callable[[str], None]


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, missing: Missing) -> Path:
    """The site that runs it."""
    try:
        return lay_out(tmp_path_factory.mktemp("suite"))
    except fetch.FetchError as error:
        missing(str(error))
        raise


@pytest.fixture(scope="module")
def outcomes(suite: Path) -> Iterator[dict[str, Future[Outcome]]]:
    """What becomes of the suite on each host; two run at a time, on two cores in half the time."""
    folder = ROOT / "build" / "pyodide"
    folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(2)
    running = {name: pool.submit(_run, name, suite) for name in BROWSERS if find(name)}
    running["node"] = pool.submit(run_on_node, folder)
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
    check(outcome, AT_LEAST[browser], *MUST_RUN, *MUST_RUN_IN_BROWSERS)


def test_and_in_a_virtual_environment_of_pyodide_on_node(
    outcomes: dict[str, Future[Outcome]], missing: Missing, report: Report
) -> None:
    folder = ROOT / "build" / "pyodide"
    try:
        outcome = outcomes["node"].result()
    except fetch.FetchError as error:
        missing(str(error))
        raise
    wheels = {wheel.name.split("-", 2)[2] for wheel in (folder / "dist").glob("*.whl")}
    assert wheels == {"py3-none-any.whl", "cp313-none-any.whl"}, "as built, and compiled"
    report(outcome)
    check(outcome, AT_LEAST["node"], *MUST_RUN)


def check(outcome: Outcome, at_least: int, *files: str) -> None:
    """Nothing failed, nothing was left out without a reason, and enough was really run."""
    assert not outcome.failed, outcome
    assert outcome.status == 0, outcome
    assert not outcome.complaints
    assert all(outcome.gated.values())
    ran = {test.partition("::")[0] for test in outcome.ran}
    assert ran >= {f"tests/{name}.py" for name in files}
    assert len(outcome.ran) >= at_least


MUST_RUN = (
    "chat/test_template",
    "testing/test_conformance",
    "testing/test_fake",
    "testing/test_gates",
    "testing/test_plugin",
    "testing/test_runtime_conformance",
    "wasm/test_abi",
    "wasm/test_engine",
    "wasm/test_memory",
    "wasm/test_recovery",
    "wasm/hosts/test_sandbox",
)
"""On every host."""
MUST_RUN_IN_BROWSERS = (
    "bridge/test_attacks",
    "bridge/test_generation",
    "bridge/test_life",
    "bridge/test_params",
    "bridge/test_prompt",
    "bridge/test_registry",
    "bridge/test_text_runtime",
    "local/test_half_read",
    "local/test_ledger_rule",
    "local/test_text_and_stops",
    "models/test_gguf",
    "wasm/hosts/test_threads",
)
AT_LEAST = {"node": 150, "chromium": 600, "firefox": 600}
