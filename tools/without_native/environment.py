"""Virtual environments in the per-user cache, one for each Python and list of requirements.

The project is installed anew each time. Its requirements are already there, so this takes a second.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from tools.random_model.cache import cache_folder
from tools.steps import Clock, StepFailed, run

__all__ = ["Environment"]

_NAME = "llama-bridge"


class Environment:
    """A virtual environment; in a ``with`` block nobody else uses it.

    Args:
        python: its base interpreter.
        requirements: what to install in it, in pip's form.
        clock: the time limit of all steps.
    """

    def __init__(self, python: Path, requirements: Sequence[str], clock: Clock) -> None:
        self._base, self._requirements, self._clock = python, list(requirements), clock
        asked = "import sys; print(sys.version, sys.base_prefix)"
        version = run(f"asking {python} for its version", [python, "-c", asked], clock)
        key = hashlib.sha256("\n".join([version, *requirements]).encode()).hexdigest()[:16]
        self._folder = cache_folder("environments") / key
        self._lock = FileLock(self._folder.with_suffix(".lock"))

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def __enter__(self) -> Environment:
        """Wait for it, and make it if it or its Python is missing.

        Raises:
            StepFailed: it could not be made.
        """
        self._lock.acquire()
        try:
            self._make()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let others use it."""
        self._lock.release()

    def _make(self) -> None:
        finished = self._folder / "finished"
        if finished.exists() and self.python.exists():
            return
        # Made in place, because virtual environments cannot be moved.
        shutil.rmtree(self._folder, ignore_errors=True)
        step = f"a virtual environment of {self._base}"
        run(step, [self._base, "-m", "venv", self._folder], self._clock)
        self._pip("install", "--quiet", *self._requirements)
        finished.touch()

    def install(self, *what: str | Path, native: bool = False) -> None:
        """Install the project, replacing an earlier installation.

        Args:
            what: arguments for pip, such as ``("--editable", ROOT)``. Requirements are not installed.
            native: whether llama-cpp-python may be there.

        Raises:
            StepFailed: pip failed, a requirement is missing, or llama-cpp-python is installed.
        """
        self._pip("uninstall", "--quiet", "--yes", _NAME)
        self._pip("install", "--quiet", "--no-deps", "--no-build-isolation", *what)
        self._pip("check")
        asked = "import importlib.util as i; print(i.find_spec('llama_cpp'))"
        if not native and self.run("looking for llama-cpp-python", "-c", asked).strip() != "None":
            raise StepFailed(f"llama-cpp-python is installed in {self._folder}: remove that folder")

    def _pip(self, command: str, *arguments: str | Path) -> None:
        words = ["-m", "pip", "--disable-pip-version-check", command, *arguments]
        self.run(f"pip {command}", *words)

    def run(self, step: str, *arguments: str | Path) -> str:
        """Run its Python in the project's folder, and return the output.

        Raises:
            StepFailed: it failed, or took too long.
        """
        return run(step, [self.python, *arguments], self._clock)
