"""Wheels for ARM64, in the same versions as here."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from tools.project import name_of, needs, wheel
from tools.random_model.cache import cache_folder, kept
from tools.steps import Clock, run

__all__ = ["packages", "project", "required"]

_TESTS = ("gguf", "numpy", "pytest", "pytest-timeout")
"""Also imported by the tests of the kernels and the engine."""

_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")


def required(*, tests: bool) -> list[str]:
    """``name==version`` of what the project and its command line need at run time; with ``tests``, its tests too."""
    names = {*map(name_of, needs()), *(_TESTS if tests else ())}
    return [f"{name}=={metadata.version(name)}" for name in sorted(names)]


def packages(pins: Iterable[str], python: str, clock: Clock) -> Path:
    """A folder with these packages, for ``PYTHONPATH``.

    Args:
        pins: from :func:`required`.
        python: version of the interpreter there, such as ``3.11``.
        clock: the time limit.

    Raises:
        StepFailed: pip could not get a package.
    """
    pins = list(pins)
    key = hashlib.sha256("\n".join([python, *_PLATFORMS, *pins]).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
        for platform in _PLATFORMS:
            command += ["--platform", f"{platform}_aarch64"]
        run("wheels for ARM64", [*command, *pins], clock)

    return kept(cache_folder("arm64") / f"site-{key}", make)


def project(folder: Path, clock: Clock) -> Path:
    """Build the project's own wheel and unpack it in ``folder``, for ``PYTHONPATH``."""
    unpacked = folder / "project"
    with zipfile.ZipFile(wheel(folder / "dist", clock)) as file:
        file.extractall(unpacked)
    return unpacked
