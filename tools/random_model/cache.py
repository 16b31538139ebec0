"""The per-user cache folder, shared with the build of llama.wasm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_folder", "kept"]


def cache_folder(name: str) -> Path:
    """A folder of the per-user cache, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    folder = Path(base).expanduser() / "llama-bridge" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
