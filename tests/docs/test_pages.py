"""What README and documentation say agrees with the code, and with one another."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

from llama_bridge import Capability, errors

from .pages import DOCS, PAGES, ROOT

if sys.platform == "emscripten":
    pytest.skip("a page has no documentation", allow_module_level=True)

README = (ROOT / "README.md").read_text(encoding="utf-8") if PAGES else ""
ERRORS = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "errors.md").read_text("utf-8"), re.M))


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 150


def error_names() -> set[str]:
    """All errors and warnings that users may see."""
    named = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    store = ast.parse((ROOT / "backends/llama_bridge_wasm/store/errors.py").read_text("utf-8"))
    return named | {node.name for node in store.body if isinstance(node, ast.ClassDef)}


def test_every_error_says_what_to_do() -> None:
    assert error_names() - {"BridgeError"} == set(ERRORS), "docs/errors.md has a row for each error"
    for name, row in ERRORS.items():
        means, _, do = row.partition(" | ")
        assert len(means) > 10, name
        assert len(do) > 10, name


def test_every_error_is_in_the_reference() -> None:
    listed = re.findall(
        r"autoexception:: (\w+)", (DOCS / "reference/errors.rst").read_text("utf-8")
    )
    assert set(listed) == error_names()


def test_every_capability_is_in_both_tables() -> None:
    for text in (README, (DOCS / "capabilities.md").read_text("utf-8")):
        rows = "".join(re.findall(r"^\| (`[A-Z_]+`.*?) \|", text, re.M))
        assert set(re.findall(r"`([A-Z_]+)`", rows)) == {flag.name for flag in Capability}


def shares(threads: int, column: int) -> str:
    """Lowest and highest share of native with quantised models, on all CPUs that docs/performance.md has."""
    text = (DOCS / "performance.md").read_text("utf-8").replace("*", "")
    rows = re.findall(rf"^\| Q\w+, {threads} \(\w+ runs\) \|(.*)\|$", text, re.M)
    assert len(rows) == 3
    found = [row.split("|")[column].split()[0] for row in rows]
    if threads == 1:
        rows = re.findall(r"^\| Q\w+, share[^|]* \|(.*)\|$", text, re.M)
        assert len(rows) == 2
        found += [
            pair[column - 1] for row in rows for pair in re.findall(r"([\d.]+) / ([\d.]+)", row)
        ]
    return f"{min(found, key=float)} to {max(found, key=float)}"


def test_the_front_page_is_as_fast_as_the_table() -> None:
    said = " ".join(README.split())
    assert f"it reaches {shares(1, 1)} of native's prefill speed and {shares(1, 2)} of" in said
    assert f"with two threads, {shares(2, 1)} and {shares(2, 2)} " in said


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_platforms_are_named_alike() -> None:
    for page in ("README.md", "docs/index.md"):
        said = " ".join((ROOT / page).read_text("utf-8").split())
        assert "x86-64 and ARM64 under Linux, macOS and Windows, and in browser pages" in said
