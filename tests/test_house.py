"""The house is as its maps say: which file lies where, who imports what, which way a call goes."""

from __future__ import annotations

import ast
import gc
import re
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import llama_bridge
from llama_bridge.testing import FakeLlama

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no sources")

ROOT = Path(__file__).parents[1]
PACKAGES = {
    name: ROOT / path
    for name, path in {
        "llama_bridge": "bridge/llama_bridge",
        "llama_bridge_native": "backends/llama_bridge_native",
        "llama_bridge_wasm": "backends/llama_bridge_wasm",
    }.items()
}
SOURCES = sorted(path for root in PACKAGES.values() for path in root.rglob("*.py"))
MAPPED = [path for path in SOURCES if path.name == "__init__.py"]
REASON = re.compile(r"\d+ ms|# as |Windows|has no|an extra")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("package", MAPPED, ids=name_of)
def test_each_room_lists_what_is_in_it(package: Path) -> None:
    said = ast.get_docstring(ast.parse(package.read_text())) or ""
    assert said, "a room says what lives there"
    there = {path.name for path in package.parent.glob("*.py")} - {"__init__.py", "_version.py"}
    if len(there) < 2:
        return
    named = set(re.findall(r"\b[a-z_]+\.py\b", said))
    assert named >= there, "its map leaves out some of its files"
    house = next(root for root in PACKAGES.values() if package.is_relative_to(root))
    assert named <= {path.name for path in house.rglob("*.py")}, "it names what is not there"


def test_the_map_for_contributors_names_all_rooms_and_nothing_else() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tree = text[text.index("```\nbridge/") : text.index("```", text.index("```\nbridge/") + 4)]
    rooms = {
        str(path.parent.relative_to(ROOT)) + "/"
        for path in MAPPED
        if path.parent.parent != ROOT / "bridge/llama_bridge/testing"
        and "hosts" not in path.parent.parent.name
    }
    here: list[str] = []
    found: set[str] = set()
    for line in tree.splitlines()[1:]:
        match = re.match(r"( *)(\S+(?:, \S+)*|\S+)", line)
        if not match or not line.strip():
            continue
        depth = len(match[1]) // 4
        for word in re.split(r",? +", line.strip().partition("   ")[0]):
            path = "".join([*here[:depth], word])
            assert (ROOT / path).exists(), f"{path} is not there"
            found.add(path)
            if word.endswith("/"):
                here = [*here[:depth], word]
    assert rooms <= found, f"not on the map: {rooms - found}"


FOREIGN = re.compile(r"^\| `([a-z_0-9]+)`.* \| `([^`]+)` \|$", re.M)


def test_each_foreign_package_has_one_place() -> None:
    told = dict(FOREIGN.findall((ROOT / "CONTRIBUTING.md").read_text()))
    found: defaultdict[str, set[str]] = defaultdict(set)
    own = {*PACKAGES, *sys.stdlib_module_names, "pytest"}
    for path in SOURCES:
        for name in imported(ast.parse(path.read_text())):
            if name not in own:
                found[name].add(name_of(path))
    for name, places in found.items():
        assert name in told, f"{name} is imported by {places}, and CONTRIBUTING.md does not say so"
        assert {place for place in places if not place.startswith(told[name])} == set()
    assert set(told) == set(found)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_an_import_inside_a_function_has_a_measured_reason(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = "\n".join(lines[function.lineno - 1 : function.end_lineno])
        inner = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
        if inner:
            reasons = "\n".join(re.findall(r"#.*", body))
            assert REASON.search(reasons), f"line {inner[0].lineno}"


def test_the_floors_hold() -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# one straight path


def walked(work: Any) -> list[str]:
    """The files of ``bridge/`` that a call runs through, in the order in which it reaches them."""
    root = str(PACKAGES["llama_bridge"]) + "/"
    files: dict[str, None] = {}

    def trace(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if name.startswith(root):
            files[name.removeprefix(root)] = None

    before = sys.gettrace()
    gc.collect()  # or what an earlier test left is closed on the way
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return [name for name in files if not name.startswith("testing/")]


def drawn() -> list[str]:
    """The files on the path that docs/architecture.md draws, in its order."""
    text = (ROOT / "docs/architecture.md").read_text()
    section = text[text.index("## One straight path") :]
    picture = section[
        section.index("```text") : section.index("```\n", section.index("```text") + 4)
    ]
    return re.findall(r"^\s*(\S+\.py)\b", picture, re.M)


def test_a_call_goes_the_way_that_is_drawn() -> None:
    with FakeLlama("well") as llama:
        llama.generate("warm up")
        assert walked(lambda: llama.generate("hi")) == drawn()
        assert len(drawn()) <= 9
        assert set(walked(lambda: llama.generate_continue("and?"))) == set(drawn())


def test_a_call_on_a_real_model_goes_the_same_way(llama: llama_bridge.LlamaBridge) -> None:
    llama.generate("warm up", max_tokens=4)
    assert set(walked(lambda: llama.generate("hi"))) == set(drawn())
