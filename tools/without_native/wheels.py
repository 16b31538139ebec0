"""``python -m tools.without_native.wheels``: installs the wheel and runs its demo, under each Python on this machine."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tools import pythons
from tools.project import needs, wheel
from tools.project import pythons as promised
from tools.steps import Clock, StepFailed

from .environment import Environment

__all__ = ["main"]

_SECONDS = 600


def main() -> int:
    """Try each Python, print the outcome, return the exit status."""
    clock = Clock(_SECONDS)
    wrong = tried = 0
    with tempfile.TemporaryDirectory(prefix="wheels-") as folder:
        try:
            built = wheel(Path(folder), clock)
        except StepFailed as error:
            print(f"wheels: {error}", file=sys.stderr)
            return 1
        for version in promised():
            python = pythons.find(version)
            if python is None:
                print(f"wheels: Python {version} is not on this machine", flush=True)
                continue
            tried += 1
            try:
                print(f"wheels: Python {version}: {_try(python, built, clock)}", flush=True)
            except StepFailed as error:
                wrong += 1
                print(f"wheels: Python {version}: {error}", file=sys.stderr, flush=True)
    print(f"{tried - wrong} passed, {wrong} failed")
    return 1 if wrong or not tried else 0


def _try(python: Path, built: Path, clock: Clock) -> str:
    """Install and run the wheel; return what to print on success."""
    started = clock.used
    with Environment(python, needs(), clock) as environment:
        environment.install(built)
        command = environment.python.with_name("llama-bridge")
        environment.run("the demo", command, "demo")
        doctor = json.loads(environment.run("the doctor", command, "doctor", "--json"))
    usable = [backend["name"] for backend in doctor["backends"] if backend["works"]]
    if usable != ["wasm"]:
        raise StepFailed(f"llama-bridge doctor reports these backends as available: {usable}")
    return f"installed, the demo ran on wasm, {clock.used - started:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
