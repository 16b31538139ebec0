"""The models in the folder of older versions of llama.cpp. Newer ones share the hub's cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .folders import matching

__all__ = ["llama_cpp_models"]


def llama_cpp_models() -> Iterator[Path]:
    """The path of each."""
    folder = _folder()
    for path in matching(folder, "*.gguf"):
        if os.path.isfile(path) and "mmproj" not in path.name.lower():
            yield path


def _folder() -> Path:
    if given := os.environ.get("LLAMA_CACHE", ""):
        return Path(os.path.expanduser(given))
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/llama.cpp"))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""), "llama.cpp")
    caches = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return Path(caches, "llama.cpp")
