"""Fetches, checks and unpacks the pinned llama.cpp, from llama-cpp-python's source distribution.

The native backend is built from the same source, so both backends have the same llama.cpp.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

PROJECT = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
LLAMA_CPP_COMMIT = "0c1e57098"
"""From the distribution's CHANGELOG, since it has no git history."""

_INSIDE = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/"
_WANTED = ("CMakeLists.txt", "LICENSE", "cmake/", "common/", "ggml/", "include/", "src/", "vendor/")


class BuildError(Exception):
    """The build cannot continue; the message says why and what to do."""


def cache_folder(name: str = "wasm") -> Path:
    """A folder of the per-user cache that this build shares with the project's tools; created if missing.

    Unlike the library's own cache it does not use platformdirs: the build runs before anything is installed.

    Raises:
        BuildError: the folder cannot be created.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    folder = Path(os.path.expanduser(base)) / "llama-bridge" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"cannot create the cache folder {folder} ({error}): set XDG_CACHE_HOME to a writable folder"
        ) from error
    return folder


def pip_environment() -> dict[str, str]:
    """The environment for pip, even if pip itself started this build in an isolated one."""
    inherited = {"PYTHONPATH", "PYTHONNOUSERSITE", "PIP_BUILD_TRACKER", "PIP_REQUIRE_VIRTUALENV"}
    return {name: value for name, value in os.environ.items() if name not in inherited}


def fetch(cache: Path, python: str, local: Path | None, log: Callable[[str], None]) -> Path:
    """Return the source distribution, a file with the right digest: ``local``, from the cache, or from pip.

    Before pip hands out a source distribution, it asks its build backend for metadata. For that it installs
    a few pure Python packages into a throw-away environment; nothing is compiled.
    """
    if local is not None:
        _check(local)
        return local
    file = cache / f"llama_cpp_python-{VERSION}.tar.gz"
    if file.is_file() and _sha256(file) == SHA256:
        return file
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{PROJECT}=={VERSION} --hash=sha256:{SHA256}\n")
        command = [python, "-m", "pip", "download", "--no-deps", "--no-binary", PROJECT]
        command += ["--require-hashes", "-r", str(requirements), "-d", folder]
        command += ["--disable-pip-version-check", "--progress-bar", "off"]
        result = subprocess.run(command, capture_output=True, text=True, env=pip_environment())
        log(result.stdout + result.stderr)
        found = Path(folder, file.name)
        if result.returncode != 0 or not found.is_file():
            raise BuildError(
                f"pip could not fetch {PROJECT} {VERSION}:\n{_tail(result.stderr or result.stdout)}\n"
                "Without network access, download its .tar.gz elsewhere and pass --sdist FILE."
            )
        _check(found)
        os.replace(found, file)
    return file


def unpack(sdist: Path, folder: Path) -> None:
    """Unpack what the build needs of llama.cpp into ``folder``."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            name = member.name.removeprefix(_INSIDE)
            if name != member.name and name.startswith(_WANTED):
                member.name = name
                archive.extract(member, folder, filter="data")
    if not (folder / "CMakeLists.txt").is_file():
        raise BuildError(f"{sdist} does not contain {_INSIDE}")


def _check(file: Path) -> None:
    if not file.is_file():
        raise BuildError(f"{file}: no such file")
    if (found := _sha256(file)) != SHA256:
        raise BuildError(f"{file}: sha256 is {found}, but {PROJECT} {VERSION} has {SHA256}")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join("  " + line for line in text.strip().splitlines()[-lines:])
