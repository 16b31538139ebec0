"""Keeps what the tools make, once per user, in the cache folder that the build of llama.wasm uses too."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from wasm.source import cache_folder

__all__ = ["cache_folder", "kept"]


def kept(target: Path, make: Callable[[Path], None]) -> Path:
    """Return ``target``, a file or a folder. If it is missing it is made first, completely or not at all.

    ``make`` gets a path that does not exist yet, next to the target. If two processes make the same thing at the same
    time, one of them wins and both get the result.
    """
    if target.exists():
        return target
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        made = work / target.name
        make(made)
        try:
            os.replace(made, target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
