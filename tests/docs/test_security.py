"""docs/security.md names a test for each threat: it is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.platform == "emscripten":
    pytest.skip("a page has no documentation", allow_module_level=True)

ROOT = Path(__file__).parents[2]
_TEST = re.compile(r"`([a-z_/]+\.py)(?:::(test_\w+))?` \|$", re.M)


def test_each_threat_has_a_test_that_exists() -> None:
    table = (ROOT / "docs" / "security.md").read_text().partition("## Threat by threat")[2]
    named = _TEST.findall(table)
    assert len(named) == table.count("\n| a ") > 14
    for path, name in named:
        source = (ROOT / "tests" / path).read_text()
        assert f"def {name}(" in source if name else "def test_" in source, f"{path}::{name}"
