"""Puts llama.wasm, chat.wasm and the chat application, built or from the cache, into every wheel and editable install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuiltFilesHook(BuildHookInterface[Any]):
    """Runs both builds, which are instant if the sources have not changed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build all before hatchling collects files."""
        for folder in ("wasm", "app"):
            subprocess.run([sys.executable, str(Path(self.root) / folder / "build.py")], check=True)
