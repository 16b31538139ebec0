"""``python -m tools.desktop [OPTIONS OF PYTEST]``: tests examples/desktop_qt.py. PySide6, 250 MB, stays out of .venv, in the per-user cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tools.project import needs_of_desktop
from tools.random_model.cache import cache_folder, kept
from tools.steps import ROOT

__all__ = ["main"]

_TESTS = ("tests/examples/test_desktop.py", "-k", "qt")


def main(options: list[str]) -> int:
    """Run the tests and return the exit status."""
    paths = [str(_packages()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    command = [sys.executable, "-m", "pytest", *_TESTS, *options]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def _packages() -> Path:
    needs = needs_of_desktop()
    key = hashlib.sha256(" ".join([sys.version, *needs]).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*command, "--target", str(folder), *needs], check=True)

    return kept(cache_folder("desktop") / key, make)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
