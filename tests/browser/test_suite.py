"""What a page does in a way of its own, run in Pyodide in Chromium: the host of llama.wasm, and the contracts on it.

``make pyodide`` runs the whole suite there, in Firefox and on Node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.browser import fetch
from tools.browser.browsers import find

from .conftest import Report
from .enough import MUST_RUN, check
from .outside import OPTIONS, lay_out, run_in_browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_what_runs_on_a_desktop_runs_in_a_page(
    tmp_path: Path, missing: Callable[[str], None], report: Report
) -> None:
    if not find("chromium"):
        missing("chromium is not installed")
    try:
        lay_out(tmp_path, [*OPTIONS[:-1], *(f"tests/{name}.py" for name in MUST_RUN)])
    except fetch.FetchError as error:
        missing(str(error))
    outcome = run_in_browser("chromium", tmp_path)
    report(outcome)
    check(outcome, at_least=150)
