"""The models that Ollama has on this disk. They are only read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .folders import matching

__all__ = ["ollama_models"]

_MODEL = "application/vnd.ollama.image.model"
_HOST, _OWNER = "registry.ollama.ai", "library"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LARGEST = 1 << 20


def ollama_models() -> Iterator[tuple[str, Path, str]]:
    """Each model's name there, the path of its weights, and their sha256."""
    for folder in _folders():
        top = folder / "manifests"
        for manifest in matching(top, "*/*/*/*"):
            sha256 = _weights(manifest)
            path = folder / "blobs" / f"sha256-{sha256}"
            if sha256 and os.path.isfile(path):
                yield _name(*manifest.relative_to(top).parts), path, sha256


def _folders() -> list[Path]:
    if given := os.environ.get("OLLAMA_MODELS", ""):
        return [Path(os.path.expanduser(given))]
    return [Path(os.path.expanduser("~/.ollama/models")), Path("/usr/share/ollama/.ollama/models")]


def _weights(manifest: Path) -> str:
    try:
        if not manifest.is_file() or manifest.stat().st_size > _LARGEST:
            return ""
        layers: Any = json.loads(manifest.read_bytes())["layers"]
        found = [layer["digest"] for layer in layers if layer["mediaType"] == _MODEL]
        match = _DIGEST.fullmatch(found[0]) if found else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return match[1] if match else ""


def _name(host: str, owner: str, model: str, tag: str) -> str:
    """As ``ollama list`` shows it."""
    name = f"{model}:{tag}"
    if (host, owner) == (_HOST, _OWNER):
        return name
    return f"{owner}/{name}" if host == _HOST else f"{host}/{owner}/{name}"
