"""``python -m tools.pyodide``: the suite in Pyodide on Node, in Chromium and in Firefox; what it makes is kept in build/pyodide.

On Node it runs in a virtual environment of Pyodide, with the wheel as pyodide-build makes and compiles it.
"""

from __future__ import annotations

import sys

from tests.browser.enough import MUST_RUN_IN_BROWSERS, check
from tests.browser.outside import run_in_browsers, run_on_node
from tools.browser.fetch import FetchError
from tools.browser.site import ROOT


def main() -> None:
    """Run everything; the exit status says whether the suite passed, and enough of it ran."""
    folder = ROOT / "build" / "pyodide"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        on_node = run_on_node(folder)
        in_browsers = run_in_browsers(folder)
    except FetchError as error:
        sys.exit(str(error))
    for outcome in (on_node, *in_browsers.values()):
        print(outcome)
    wheels = [wheel.relative_to(ROOT) for wheel in (folder / "dist").glob("*.whl")]
    print(*wheels, sep="\n")
    check(on_node, "chat/test_template", at_least=150)
    for outcome in in_browsers.values():
        check(outcome, *MUST_RUN_IN_BROWSERS, at_least=600)
    forms = {wheel.name.split("-", 2)[2] for wheel in wheels}
    assert forms == {"py3-none-any.whl", "cp313-none-any.whl"}, "as built, and compiled"


if __name__ == "__main__":
    main()
