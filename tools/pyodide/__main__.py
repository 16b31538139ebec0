"""``python -m tools.pyodide``: builds, compiles, installs and tests the wheel for Pyodide, in build/pyodide."""

from __future__ import annotations

import sys

from tests.browser.enough import check
from tests.browser.outside import run_on_node
from tools.browser.fetch import FetchError
from tools.browser.site import ROOT


def main() -> None:
    """Run everything; the exit status says whether the suite passed, and enough of it ran."""
    folder = ROOT / "build" / "pyodide"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = run_on_node(folder)
    except FetchError as error:
        sys.exit(str(error))
    print(outcome)
    wheels = [wheel.relative_to(ROOT) for wheel in (folder / "dist").glob("*.whl")]
    print(*wheels, sep="\n")
    check(outcome, "node")
    forms = {wheel.name.split("-", 2)[2] for wheel in wheels}
    assert forms == {"py3-none-any.whl", "cp313-none-any.whl"}, "as built, and compiled"


if __name__ == "__main__":
    main()
