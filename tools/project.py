"""Reads pyproject.toml, and builds the project's wheel."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from tools.steps import ROOT, Clock, run

__all__ = [
    "name_of",
    "needs",
    "needs_of_desktop",
    "needs_of_fleet",
    "needs_of_tests",
    "pythons",
    "wheel",
]

_CHECKERS = ("build", "mypy", "playwright", "pre-commit", "pyright", "ruff")
"""In the group ``dev``, but not imported by the quick suite."""

_OF_FLEET = ("gguf", "hatchling", "mypy", "numpy", "openai", "pytest", "pytest-timeout")
"""In the group ``dev``, and needed to test a fleet."""


def needs() -> list[str]:
    """Requirements of the library and the command line at run time."""
    project = _told()["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["cli"]]


def needs_of_tests() -> list[str]:
    """The same, and those of the quick suite."""
    dev: list[str] = _told()["dependency-groups"]["dev"]
    extras = _told()["project"]["optional-dependencies"]
    hub: list[str] = [*extras["hub"], *extras["serve"], *extras["remote"]]
    return [*needs(), *hub, *(need for need in dev if name_of(need) not in _CHECKERS)]


def needs_of_fleet(native: bool) -> list[str]:
    """Requirements of a fleet on Ray Serve and its tests, with the native backend or without it."""
    told = _told()
    extras = told["project"]["optional-dependencies"]
    groups = told["dependency-groups"]
    dev = [need for need in groups["dev"] if name_of(need) in _OF_FLEET] + groups["fleet"]
    return [
        *told["project"]["dependencies"],
        *extras["ray"],
        *(extras["native"] if native else ()),
        *dev,
    ]


def needs_of_desktop() -> list[str]:
    """What a desktop example needs besides the library."""
    needed: list[str] = _told()["dependency-groups"]["desktop"]
    return needed


def name_of(requirement: str) -> str:
    """The name in a requirement: ``numpy`` in ``numpy>=2``."""
    match = re.match(r"[\w.-]+", requirement)
    if match is None:
        raise ValueError(f"{requirement!r} is not a requirement")
    return match.group()


def pythons() -> list[str]:
    """The supported Python versions, such as ``3.12``."""
    found = (
        re.fullmatch(r"Programming Language :: Python :: (\d\.\d+)", classifier)
        for classifier in _told()["project"]["classifiers"]
    )
    return [match[1] for match in found if match]


def wheel(folder: Path, clock: Clock) -> Path:
    """Build the project's wheel in ``folder``.

    Raises:
        StepFailed: it could not be built.
    """
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    run("the project's wheel", build, clock)
    (found,) = folder.glob("*.whl")
    return found


def _told() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)
