"""Where llama.wasm is, and what it was built from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BUILD_HINT", "DEFAULT_PATH", "Artifact", "read_artifact"]

DEFAULT_PATH = Path(__file__).with_name("llama.wasm")
BUILD_HINT = "python wasm/build.py"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A built llama.wasm.

    Attributes:
        path: the module.
        llama_cpp: commit it was built from, or "unknown" if its description is missing.
    """

    path: Path
    llama_cpp: str


def read_artifact(path: Path = DEFAULT_PATH) -> Artifact | None:
    """The module at ``path``, or None if it is not built."""
    if not path.is_file():
        return None
    try:
        text = path.with_name(path.name + ".json").read_text(encoding="utf-8")
        description: dict[str, Any] = json.loads(text)
        return Artifact(path, str(description["llama_cpp_commit"]))
    except (OSError, ValueError, KeyError):
        return Artifact(path, "unknown")
