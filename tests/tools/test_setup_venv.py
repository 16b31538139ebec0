"""What `make setup` does with what an earlier one left: half a wheel, folders, a lock."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import setup_venv

if sys.platform == "emscripten":
    pytest.skip("it starts processes", allow_module_level=True)

KEY = "0123456789abcdef"
WHEEL = "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel to "compile", in no time: pip copies it. The cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(setup_venv, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(setup_venv, "LOG", tmp_path / "log")
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("tiny.py", "TINY = True\n" * 1000)
        about = "tiny-1.0.dist-info"
        made.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        made.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{about}/RECORD", "")
    return path


def test_half_a_wheel_in_the_cache_is_made_again(wheel: Path) -> None:
    kept = setup_venv.native_wheel([str(wheel)], KEY)
    assert kept is not None
    assert kept.read_bytes() == wheel.read_bytes()
    for damaged in (
        b"",
        wheel.read_bytes()[:2000],
        wheel.read_bytes().replace(b"TINY", b"tiny", 1),
    ):
        kept.write_bytes(damaged)
        assert setup_venv.native_wheel([str(wheel)], KEY) == kept
        assert kept.read_bytes() == wheel.read_bytes()
    kept.unlink()
    (kept.parent / "something").write_text("else")
    assert setup_venv.native_wheel([str(wheel)], KEY) == kept


def test_what_a_killed_compilation_left_goes(wheel: Path, tmp_path: Path) -> None:
    old, new = (tmp_path / "cache" / "llama-bridge" / "native" / f"{KEY}-{x}" for x in "ab")
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    setup_venv.native_wheel([str(wheel)], KEY)
    assert not old.exists()
    assert new.exists()  # somebody may be compiling there


def test_a_cache_that_cannot_be_written_to_is_named(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(SystemExit, match="set XDG_CACHE_HOME to a writable folder"):
        setup_venv.native_wheel([str(wheel)], KEY)


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_a_second_set_up_of_a_folder_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tools import setup_venv\n"
        f"setup_venv.ROOT = Path({str(tmp_path)!r}); setup_venv.wait_for_others()\n"
        "print('its turn', flush=True); sys.stdin.read()"
    )
    with _set_up(code) as first:
        assert _line(first) == "its turn\n"
        with _set_up(code) as second:
            assert "waiting for another set-up" in _line(second)
            first.communicate(timeout=60)
            assert second.communicate(timeout=60)[0] == "its turn\n"


def _set_up(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=setup_venv.ROOT, stdin=pipe, stdout=pipe, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()
