"""A desktop loads nothing that is for a page. Which part may import which is held by import-linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_desktop_imports_nothing_of_a_pages(wasm: Path) -> None:
    code = (
        "import sys, llama_bridge; from llama_bridge_wasm import BACKEND\n"
        "llama_bridge.LlamaBridge('demo', backend='wasm').close()\n"
        "print([name for name in sys.modules if name.startswith('llama_bridge_wasm')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "llama_bridge_wasm.hosts.wasmtime.guest" in done.stdout
    for absent in ("page", "store", "browser"):
        assert absent not in done.stdout
