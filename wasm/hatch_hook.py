"""Puts llama.wasm into every wheel and editable install: built, or taken from the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LlamaWasmHook(BuildHookInterface[Any]):
    """Runs ``wasm/build.py``, which is instant when the sources have not changed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the build product before hatchling collects files."""
        subprocess.run([sys.executable, str(Path(self.root) / "wasm" / "build.py")], check=True)
