"""Finds the Pythons on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find"]


def find(version: str) -> Path | None:
    """A Python of this version (``3.12``) that can make virtual environments: this one, one on the path, or one of pyenv."""
    asked = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates(version):
        try:
            found = subprocess.run([candidate, "-c", asked], capture_output=True, text=True)
        except OSError:
            continue
        if found.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"), reverse=True)
