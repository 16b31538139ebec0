"""What the tools make once per user, in the cache folder that the build of llama.wasm has too."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from wasm.source import cache_folder

__all__ = ["cache_folder", "kept"]


def kept(target: Path, make: Callable[[Path], None]) -> Path:
    """``target``, made first if it is not there: a file or a folder, whole or not at all.

    ``make`` is given a path that does not exist, beside the target. Of two processes that make the same
    thing at the same time one wins, and both have it.
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
