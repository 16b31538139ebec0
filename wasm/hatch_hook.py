"""Puts llama.wasm and chat.wasm, built or from the cache, into every wheel and editable install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LlamaWasmHook(BuildHookInterface[Any]):
    """Runs ``wasm/build.py``, which is instant if the sources have not changed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build both before hatchling collects files."""
        subprocess.run([sys.executable, str(Path(self.root) / "wasm" / "build.py")], check=True)
