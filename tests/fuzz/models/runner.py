"""The parent process: starts a worker, counts what it says, keeps the files that did harm."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.models.mutations import mutant
from tests.fuzz.models.seeds import prepare, read_seeds
from tests.fuzz.report import Report

__all__ = ["fuzz_models"]

_ROOT = Path(__file__).parents[3]
_EXAMPLES = 3


def fuzz_models(
    count: int,
    backend: str,
    *,
    seed: int = 0,
    first: int = 0,
    preflight: bool = True,
    keep: Path | None = None,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Try so many hostile models, ``first`` and following.

    Args:
        count: how many.
        backend: ``"native"`` or ``"wasm"``.
        seed: which ones.
        first: number of the first.
        preflight: False leaves it out, on wasm.
        keep: where those go that did harm, each with its recipe.
        progress: called after each.
    """
    started = time.monotonic()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llama-bridge-fuzz-") as name:
        folder = Path(name)
        prepare(folder)
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "tests.fuzz.models.worker",
            str(folder),
        ]
        command += [str(seed), str(first), str(count), backend, str(folder)]
        if not preflight:
            command.append("--without-preflight")
        errors = folder / "worker.txt"
        with errors.open("w") as file:
            child = subprocess.Popen(
                command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=file, text=True
            )
        ended = False
        with child:
            assert child.stdout is not None
            try:
                for text in child.stdout:
                    line: dict[str, Any] = json.loads(text)
                    ended = "end" in line
                    _take(report, line)
                    report.seconds = time.monotonic() - started
                    progress(report)
            finally:
                child.terminate()
        if not ended:
            raise RuntimeError(f"the worker stopped:\n{errors.read_text(errors='replace')[-3000:]}")
        if keep is not None and report.problems:
            _keep(keep, folder, seed, report)
    report.seconds = time.monotonic() - started
    return report


def _take(report: Report, line: dict[str, Any]) -> None:
    if "done" in line:
        report.files += 1
        report.outcomes[line["outcome"]] += 1
        examples = report.examples.setdefault(line["outcome"], [])
        if len(examples) < _EXAMPLES:
            examples.append(line["done"])
        report.slowest = max(report.slowest, line["seconds"])
        report.peak_mib = max(report.peak_mib, line["peak"])
    elif "problem" in line:
        report.problems.append((line["number"], line["problem"]))


def _keep(keep: Path, folder: Path, seed: int, report: Report) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    seeds = read_seeds(folder)
    for number, problem in report.problems[:200]:
        hostile = mutant(seeds, seed, number)
        path = keep / f"{seed}-{number}-{hostile.seed}.gguf"
        path.write_bytes(hostile.data)
        path.with_suffix(".txt").write_text(f"{hostile.recipe}\n\n{problem}\n")
