"""``python -m tools.without_native.suite [OPTIONS OF PYTEST]``: runs the suite without llama-cpp-python.

Without options it runs those quick tests whose outcome may depend on native. It omits tests that only compute in
llama.wasm or open a page.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.project import needs_of_tests
from tools.steps import ROOT, Clock, StepFailed

from .environment import Environment

__all__ = ["main"]

_SECONDS = 900
_QUICK = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not slow", "tests")
_SAME = ("tests/browser", "tests/wasm")


def main(options: list[str]) -> int:
    """Run the suite and return the exit status."""
    chosen = options or [*_QUICK, *(f"--ignore={folder}" for folder in _SAME)]
    clock = Clock(_SECONDS)
    try:
        with Environment(Path(sys.executable), needs_of_tests(), clock) as environment:
            environment.install("--editable", ROOT)
            print(f"without native: ready after {clock.used:.0f} s", flush=True)
            # CI allows the native backend to be missing only where it was not asked for.
            command = [str(environment.python), "-m", "pytest", "--llama-backend", "wasm", *chosen]
            return subprocess.run(command, cwd=ROOT, timeout=clock.left("the suite")).returncode
    except subprocess.TimeoutExpired:
        print(f"without native: {clock.over('the suite')}", file=sys.stderr)
    except StepFailed as error:
        print(f"without native: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
