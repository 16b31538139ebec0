"""Builds and compiles the project's wheel for Pyodide, and tests it in a virtual environment on Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.browser import fetch
from tools.browser.site import ROOT

from .environment import Environment, run

__all__ = ["build", "make", "run_suite"]


def build(made: Environment, folder: Path) -> Path:
    """Build the wheel in ``folder`` with ``pyodide build``, and byte-compile it with ``pyodide py-compile``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made.pyodide("build", ROOT, "--outdir", folder, "--no-isolation")
    shutil.rmtree(
        ROOT / ".pyodide_build", ignore_errors=True
    )  # its scratch folder, beside the sources
    (wheel,) = folder.glob("*.whl")
    made.pyodide("py-compile", wheel, "--keep", "--silent")
    (compiled,) = (path for path in folder.glob("*.whl") if path != wheel)
    return compiled


def make(made: Environment, wheel: Path, folder: Path) -> Path:
    """Make a ``pyodide venv`` with the wheel and what the suite needs; return its interpreter."""
    stamp = folder / "made-by"
    if not stamp.exists() or stamp.read_text() != made.key:
        shutil.rmtree(folder, ignore_errors=True)
        made.pyodide("venv", folder)
        stamp.write_text(made.key)
    pins = {**fetch.PAGE, **fetch.TESTS}
    wheels = [*fetch.wheels(pins), wheel]
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run([folder / "bin/pip", "install", *options, "--force-reinstall", *wheels])
    return folder / "bin" / "python"


def run_suite(
    python: Path, archive: Path, folder: Path, options: Sequence[str], *, seconds: float = 280
) -> Iterator[dict[str, Any]]:
    """Run a packed suite; yield the outcome of each test, and at the end ``{"status": ..., "printed": ...}``."""
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    told = folder / "outcomes.jsonl"
    result = subprocess.run(
        [python, "-m", "tests.browser.inside", folder, told, *options],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    if told.exists():
        yield from map(json.loads, told.read_text().splitlines())
    yield {"status": result.returncode, "printed": result.stdout.splitlines()}
