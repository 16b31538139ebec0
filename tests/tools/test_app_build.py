"""The build of the chat application."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "bridge" / "llama_bridge" / "serve" / "page"

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no sources")


def test_it_is_small_and_names_no_place_of_this_machine() -> None:
    script = (PAGE / "app.js").read_bytes()
    assert len(gzip.compress(script)) < 100_000
    for place in (str(ROOT), str(Path.home() / ".cache"), "node_modules"):
        assert place.encode() not in script


def test_the_licences_of_what_is_in_it_go_along() -> None:
    text = (PAGE / "licences.txt").read_text(encoding="utf-8")
    for name in ("marked", "dompurify", "highlight.js"):
        assert f"\n{name}\n===" in f"\n{text}"
    assert text.count("Copyright") >= 3


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, str(ROOT / "app" / "build.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        timeout=60,
    )
    assert result.returncode == 1
    assert "set XDG_CACHE_HOME" in result.stderr


def test_two_builds_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two test workers that build the wheel do so: one took away what the other had half written."""
    code = (
        f"import build, pathlib; [build.build(pathlib.Path({str(tmp_path)!r})) for _ in range(40)]"
    )
    command = [sys.executable, "-c", code]
    folder = Path(__file__).parents[2] / "app"
    both = [subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
