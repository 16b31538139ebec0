"""The models that LM Studio has on this disk. They are only read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .folders import matching

__all__ = ["lm_studio_models"]


def lm_studio_models() -> Iterator[tuple[str, Path]]:
    """Each model's name there, ``publisher/repository/file.gguf``, and its path."""
    seen: set[Path] = set()
    for folder in _folders():
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            for path in matching(folder, "*/*/*.gguf"):
                if os.path.isfile(path) and "mmproj" not in path.name.lower():
                    yield path.relative_to(folder).as_posix(), path


def _folders() -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))
    try:
        base = Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        base = home / ".lmstudio"
    try:
        settings: Any = json.loads((base / "settings.json").read_bytes())
        if isinstance(chosen := settings["downloadsFolder"], str) and chosen:
            yield Path(chosen)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    yield base / "models"
    yield home / ".cache" / "lm-studio" / "models"
