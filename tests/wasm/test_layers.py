"""Which part of the package may import which: backend, then engine, hosts and store apart, then what all stand on."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llama_bridge_wasm

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no sources")

PACKAGE = "llama_bridge_wasm"
ROOT = Path(llama_bridge_wasm.__file__).parent
MAY_USE = {
    "": {"backend"},
    "backend": {"abi", "artifact", "engine", "hosts", "hosts.browser", "hosts.wasmtime"},
    "engine": {"engine", "abi"},
    "hosts": {"hosts", "abi", "page"},
    "hosts.wasmtime": {"hosts.wasmtime", "hosts", "abi"},
    "hosts.browser": {"hosts.browser", "hosts", "abi", "page"},
    "store": {"store", "page"},
    "abi": set(),
    "artifact": set(),
    "page": set(),
}
OUTSIDE = {
    "wasmtime": {"hosts.wasmtime"},
    "js": {"page"},
    "pyodide": {"page"},
    "llama_bridge_native": set[str](),
}


def parts() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    inside = path.relative_to(ROOT).with_suffix("")
    return ".".join([PACKAGE, *inside.parts]).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The folder or, at the top, the file: ``hosts.browser`` of ``llama_bridge_wasm.hosts.browser.guest``."""
    names = module.split(".")[1:]
    known = [".".join(names[:n]) for n in range(len(names), 0, -1)]
    return next((name for name in known if name in MAY_USE), "")


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, within functions too."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(name, package) if node.level else name
            inside = {f"{module}.{alias.name}" for alias in node.names}
            found = {name for name in inside if name in map(name_of, parts())}
            yield from found or {module}


@pytest.mark.parametrize("path", parts(), ids=name_of)
def test_a_part_imports_only_what_stands_below_it(path: Path) -> None:
    part = part_of(name_of(path))
    for module in imports(path):
        top = module.partition(".")[0]
        if top == PACKAGE:
            assert part_of(module) in MAY_USE[part], module
        else:
            assert part in OUTSIDE.get(top, {part}), module


def test_every_module_of_the_package_is_looked_at() -> None:
    assert {part_of(name_of(path)) for path in parts()} == set(MAY_USE)


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
