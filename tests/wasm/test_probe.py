"""Whether wasmtime works on this platform is known before it is imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llama_bridge_wasm import BACKEND

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no wasmtime")

STAND_IN = 'raise RuntimeError("unsupported architecture for wasmtime: riscv64")\n'


def stand_in(folder: Path, *, library: bool) -> Path:
    """A package as pip installs it where wasmtime has no wheel."""
    (folder / "wasmtime").mkdir(parents=True)
    (folder / "wasmtime/__init__.py").write_text("from ._ffi import *\n")
    (folder / "wasmtime/_ffi.py").write_text(STAND_IN)
    if library:
        (folder / "wasmtime/linux-x86_64").mkdir()
        (folder / "wasmtime/linux-x86_64/_libwasmtime.so").write_bytes(b"of another machine")
    info = folder / "wasmtime-50.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wasmtime\nVersion: 50.0.1\n")
    return folder


CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from llama_bridge import BackendUnavailable, LlamaBridge
from llama_bridge_wasm import BACKEND
print(BACKEND.probe().ok, "wasmtime" in sys.modules)
try:
    LlamaBridge("demo", backend="wasm")
except BackendUnavailable as error:
    print(error)
print(*(f"{name}" for name in sys.modules if name.startswith("wasmtime")))
"""


@pytest.mark.parametrize("library", [False, True])
def test_where_wasmtime_has_no_wheel_that_is_said_with_the_platforms_that_work(
    wasm: Path, tmp_path: Path, library: bool
) -> None:
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(CODE),
        str(stand_in(tmp_path, library=library)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    first, *rest = done.stdout.splitlines()
    assert first == f"{library} False", done.stderr
    said = "\n".join(rest)
    assert "backend 'wasm' is not available" in said
    assert ("riscv64" if library else "no library for this platform") in said
    assert "x86-64 and ARM64 with Linux, macOS or Windows" in said
    assert "Traceback" not in done.stderr


def test_a_probe_imports_nothing_and_is_quick(wasm: Path) -> None:
    BACKEND.probe()
    start = time.perf_counter()
    for _ in range(5):
        assert BACKEND.probe().ok
    assert (time.perf_counter() - start) / 5 < 0.05
