"""``python -m tools.arm64 [--short] [--cpu NAME] [--seconds N]``: the exit status is 0 if all results are the same."""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.steps import Clock, StepFailed, run

from .compare import compare
from .debian import debian
from .loops import count_instructions
from .machine import Machine, emulator
from .models import FORMATS, lend_vocabularies, model
from .packages import packages, project, required

_TESTS = ("tests/wasm/kernels", "tests/wasm/test_engine.py")
_TIMED = "not test_it_takes_a_few_milliseconds"
_SHORT_SECONDS, _SECONDS = 180, 5400


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.arm64", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="the demo model and the kernels; no tests"
    )
    parser.add_argument("--seconds", type=float, help="time limit for all steps together")
    parser.add_argument(
        "--cpu",
        default="max",
        help="the emulated CPU; cortex-a53 has no sdot (default: %(default)s)",
    )
    options = parser.parse_args()
    short: bool = options.short
    clock = Clock(options.seconds or (_SHORT_SECONDS if short else _SECONDS))
    try:
        with tempfile.TemporaryDirectory(prefix="arm64-") as folder:
            return _all(Path(folder), clock, options.cpu, short=short)
    except StepFailed as error:
        print(f"arm64: {error}", file=sys.stderr)
        return 1


def _all(folder: Path, clock: Clock, cpu: str, *, short: bool) -> int:
    def say(text: str) -> None:
        print(f"arm64: {clock.used:4.0f} s  {text}", flush=True)

    program = emulator()
    system = debian(clock)
    say(f"Python {system.version} of Debian's ARM64")
    wheels = packages(required(tests=not short), system.version, clock)
    built = project(folder, clock)
    machine = Machine(program, system, [built, wheels], cpu)
    say("the project's wheel and its requirements")

    here, there = folder / "here", folder / "there"
    wanted: list[str | Path] = [] if short else ["--demo"]
    wanted += [] if short else [f"{name}={model(name)}" for name in FORMATS]
    probe = ["-m", "tools.arm64.probe"]
    with ThreadPoolExecutor(1) as pool:
        own = pool.submit(run, "the results here", [sys.executable, *probe, here, *wanted], clock)
        machine.python("the results on ARM64", [*probe, there, *wanted], clock)
        own.result()
    outcome = compare(here, there)
    say(f"logits, texts and kernels here and on ARM64: {outcome}")

    machine.python("the demo on ARM64", ["-m", "llama_bridge", "demo"], clock)
    say("the demo runs on ARM64")
    counted = (
        count_instructions(machine.cache) if cpu == "max" else []
    )  # others may lack what is counted
    for count in counted:
        say(f"inner loop on ARM64, {count}")
    if not short:
        lend_vocabularies(machine.cache)
        options = ["-q", "-p", "no:cacheprovider", "--timeout", "3000", "--llama-backend", "wasm"]
        options += ["-k", _TIMED]  # an emulator's time is no processor's
        told = machine.python("the tests on ARM64", ["-m", "pytest", *options, *_TESTS], clock)
        say(f"tests on ARM64: {told.strip().splitlines()[-1]}")
    return 1 if outcome.different or any(count.too_many for count in counted) else 0


if __name__ == "__main__":
    sys.exit(main())
