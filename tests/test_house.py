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
        "llama_bridge_command": "bridge/llama_bridge_command",
        "llama_bridge_pytest": "bridge/llama_bridge_pytest",
        "llama_bridge_native": "backends/llama_bridge_native",
        "llama_bridge_remote": "backends/llama_bridge_remote",
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
    told: defaultdict[str, set[str]] = defaultdict(set)
    for name, place in FOREIGN.findall((ROOT / "CONTRIBUTING.md").read_text()):
        told[name].add(place)  # one with no errors to map may have a row more
    found: defaultdict[str, set[str]] = defaultdict(set)
    own = {*PACKAGES, *sys.stdlib_module_names, "pytest"}
    for path in SOURCES:
        for name in imported(ast.parse(path.read_text())):
            if name not in own:
                found[name].add(name_of(path))
    for name, places in found.items():
        assert name in told, f"{name} is imported by {places}, and CONTRIBUTING.md does not say so"
        assert {place for place in places if not place.startswith(tuple(told[name]))} == set()
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


MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__all__|__getattr__")
SHARED = {
    "byte_sums._measured": "two threads that measure at once find the same, or either form will do",
    "copy_memory._free": "one step of a list at a time: no two threads take the same block",
    "deep_stack._started": "each thread takes out what has its own number",
    "later_signals._holder": "written and read in the main thread only",
    "module._modules": "under its lock; what is in it cannot be changed",
    "module._process": "the same for all who set it",
    "threads._workers": "a page has one thread of Python, and takes its workers by Atomics",
    "threads._states": "the same",
    "threads._refused": "the page says no to all",
    "guest._modules": "a page has one thread of Python; what is in it cannot be changed",
    "browser_host._modules": "the same",
    "wasmtime_host._process": "replaced in a fork only, which has one thread then",
    "wasmtime_host._left_behind": "added to in a fork only",
    "stop._array": "a page has one stop button",
    "kept._writing": "a page has one thread of Python",
    "page._later": "a page has one thread of Python; who waits does what is in it, whoever has begun it",
    "page._tasks": "the same; only kept from being freed",
}
"""Module-level names whose value changes: why two bridges, or two threads, cannot fight over them."""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_all_bridges_share_is_told_with_the_reason(path: Path) -> None:
    tree = ast.parse(path.read_text())
    changing = {
        name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_changeable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            changing |= {target.id for target in targets if isinstance(target, ast.Name)}
    lower = {f"{path.stem}.{name}" for name in changing if not CONSTANT.fullmatch(name)}
    assert lower <= set(SHARED)


def is_changeable(value: ast.expr | None) -> bool:
    """Whether it may be a list, a dictionary, a set or a queue."""
    if not isinstance(value, ast.Call):
        return isinstance(value, MUTABLE)
    called = ast.unparse(value.func).rpartition(".")[2]
    return called in {
        "list",
        "dict",
        "set",
        "deque",
        "defaultdict",
        "Counter",
        "OrderedDict",
        "bytearray",
    }


def test_the_floors_hold() -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# one straight path

BELOW = (
    "testing/",
    "engine_arguments.py",
    "models/",
    "chat/module/",
    "on_wasmtime/",
    "later_signals.py",
)
"""What an engine calls for itself, and chat.wasm: the path ends at ledger and template, below are the modules."""


def walked(work: Any) -> list[str]:
    """The files of ``bridge/`` that a call runs through, in the order in which it reaches them."""
    root = str(PACKAGES["llama_bridge"]) + "/"
    files: dict[str, None] = {}

    def trace(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        # Whether a flag is in a set of flags is Python's own `in`: no stop on the way.
        if name.startswith(root) and frame.f_code.co_name != "__contains__":
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
    return [name for name in files if not name.startswith(BELOW)]


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
        assert len(drawn()) <= 15
        assert set(walked(lambda: llama.generate_continue("and?"))) == set(drawn())


def test_a_call_on_a_real_model_goes_the_same_way(llama: llama_bridge.LlamaBridge) -> None:
    llama.generate("warm up", max_tokens=4)
    assert set(walked(lambda: llama.generate("hi"))) == set(drawn())
