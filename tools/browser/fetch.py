"""Fetches what pages and their tests need, once, into the per-user cache.

Pyodide, Node and the browsers' driver come from npm; ``package-lock.json`` pins them with their
digests. Pure wheels come from PyPI. Both use ``npm`` and ``pip`` as they are set up on this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.random_model.cache import cache_folder, kept

__all__ = ["PAGE", "TESTS", "FetchError", "node", "node_modules", "pyodide", "wheels"]

_HERE = Path(__file__).parent

PAGE: Mapping[str, str] = {
    "micropip": "0.11.1",
    "packaging": "26.3",
}
"""What a page needs besides the project's own wheel."""

TESTS: Mapping[str, str] = {
    "click": "8.5.1",
    "hypothesis": "6.155.7",  # the last version without compiled parts
    "iniconfig": "2.3.1",
    "markdown-it-py": "4.3.0",
    "mdurl": "0.1.2",
    "pluggy": "1.7.0",
    "pygments": "2.21.0",
    "pytest": "9.2.0",
    "rich": "15.0.0",
    "sortedcontainers": "2.4.0",
}
"""What the suite also needs in a page."""

_PYTHON = "3.14"
"""Pyodide's version."""

_NODE = 24
"""The first Node with everything that llama.wasm needs."""


class FetchError(Exception):
    """Something could not be fetched; the message says what, and why."""


def node_modules() -> Path:
    """Install the npm packages of ``package-lock.json``, without running their scripts.

    Raises:
        FetchError: npm is missing or failed.
    """
    files = [_HERE / "package.json", _HERE / "package-lock.json"]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]

    def make(folder: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError("npm is not installed; on Debian: apt-get install npm")
        folder.mkdir()
        for path in files:
            shutil.copy(path, folder)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    return kept(cache_folder("npm") / key, make) / "node_modules"


def pyodide() -> Path:
    """The folder of Pyodide that pages load."""
    return node_modules() / "pyodide"


def node() -> Path:
    """A Node that runs llama.wasm: the one of ``package-lock.json``, otherwise the machine's own.

    Raises:
        FetchError: there is neither.
    """
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower())
    fetched = node_modules() / f"node-{sys.platform}-{machine}" / "bin" / "node"
    if fetched.is_file():
        return fetched
    own = shutil.which("node")
    if own is not None:
        version = subprocess.run([own, "--version"], capture_output=True, text=True).stdout
        if int(version.lstrip("v").partition(".")[0] or 0) >= _NODE:
            return Path(own)
    raise FetchError(f"Node {_NODE} or newer is needed, and npm has none for this machine")


def wheels(pins: Mapping[str, str]) -> list[Path]:
    """Pure wheels of these versions, sorted by name.

    Raises:
        FetchError: pip could not get a wheel.
    """
    return [_wheel(name, version) for name, version in sorted(pins.items())]


def _wheel(name: str, version: str) -> Path:
    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "pip"]
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", f"{name}=={version}"]
        tags = ["--implementation", "py", "--abi", "none", "--platform", "any"]
        tags += ["--only-binary", ":all:", "--python-version", _PYTHON]
        command += ["download", *tags, "-d", str(folder)]
        _run([*command, *options], folder.parent)

    folder = kept(cache_folder("wheels") / f"{name}-{version}", make)
    found = list(folder.glob("*-none-any.whl"))
    if len(found) != 1:
        shutil.rmtree(folder, ignore_errors=True)
        raise FetchError(f"there is no pure wheel of {name} {version}")
    return found[0]


def _run(command: list[str], folder: Path, **environment: str) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    if result.returncode:
        words = "\n".join(line[:300] for line in result.stdout.strip().splitlines()[-15:])
        raise FetchError(f"{' '.join(command[:4])} ... failed:\n{words}")
