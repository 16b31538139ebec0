"""A file that is replaced leaves nothing beside it: after an interrupt, after a kill, beside another writer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import pytest

from llama_bridge import LlamaBridge, SamplingParams, SessionWriteError
from llama_bridge.files import replacing
from llama_bridge.files.folder import SessionFolder
from llama_bridge.files.replacing import replace_file, sweep

SHORT = SamplingParams(temperature=0, max_tokens=4)
LEFT = """
import os, signal, sys
from llama_bridge.files.replacing import replace_file
def fill(file):
    file.write(b"qsgg and half of the rest")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
replace_file(sys.argv[1], fill)
"""


def _leave_half(path: Path) -> None:
    """A process that is killed in the middle of writing a file."""
    subprocess.run([sys.executable, "-c", LEFT, str(path)])
    assert [name for name in os.listdir(path.parent) if name.endswith(".part")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open files
def test_an_interrupt_at_any_step_leaves_the_old_file_or_the_new_one_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    ours = {replacing.__file__, __file__}
    at, left = 0, 0

    def steps(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return steps

    def fill(file: BinaryIO) -> int:
        return file.write(b"new")

    while left <= 0:
        at += 1
        left = at
        path.write_bytes(b"old")
        before = sys.gettrace()
        sys.settrace(lambda frame, *_: steps if frame.f_code.co_filename in ours else None)
        try:
            replace_file(path, fill)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert os.listdir(tmp_path) == ["s"], f"after step {at}"
        assert path.read_bytes() in (b"old", b"new")
    assert at > 100
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="no such kill")
def test_what_a_killed_process_left_goes_with_the_next_save_to_the_same_place(
    tmp_path: Path,
) -> None:
    _leave_half(tmp_path / "s")
    _leave_half(tmp_path / "other")
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello!", sampling=SHORT)
        llama.session_save(tmp_path / "s")
        assert len(os.listdir(tmp_path)) == 2, "the other place is not saved to"
        llama.session_save(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["other", "s"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such kill")
def test_what_a_killed_owner_of_a_folder_left_goes_when_it_is_opened(tmp_path: Path) -> None:
    _leave_half(tmp_path / "a.session")
    SessionFolder.open(tmp_path, 0).close()
    assert os.listdir(tmp_path) == [".lock"]


def test_a_sweep_takes_nothing_from_whoever_writes_just_now(tmp_path: Path) -> None:
    begun, go_on, path = threading.Event(), threading.Event(), tmp_path / "s"

    def fill(file: BinaryIO) -> None:
        file.write(b"qsgg")
        file.flush()
        begun.set()
        assert go_on.wait(20)

    writer = threading.Thread(target=replace_file, args=(path, fill))
    writer.start()
    assert begun.wait(20)
    sweep(str(tmp_path))
    replace_file(path, lambda file: file.write(b"the quick one"))
    assert path.read_bytes() == b"the quick one"
    go_on.set()
    writer.join(20)
    assert path.read_bytes() == b"qsgg"
    assert os.listdir(tmp_path) == ["s"]


def test_a_part_that_is_a_link_or_begins_otherwise_is_not_ours(tmp_path: Path) -> None:
    names = [f".llama-bridge-01234567-{i:016x}.part" for i in range(3)]
    victim = tmp_path.parent / "victim"
    victim.write_bytes(b"qsgg")
    (tmp_path / names[0]).symlink_to(victim)
    (tmp_path / names[1]).write_bytes(b"GGUF")
    (tmp_path / names[2]).mkdir()
    sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == names
    assert victim.exists()


def test_a_link_is_refused_where_it_is_not_to_be_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(SessionWriteError, match="a link"):
        replace_file(tmp_path / "link", lambda file: None, follow=False)
    assert os.listdir(tmp_path) == ["link"]
    replace_file(tmp_path / "link", lambda file: None)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b""


def test_the_path_of_a_saved_session_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello!", sampling=SHORT)
        for given in ("~/s", "s", "./x/../s", Path("s")):
            (tmp_path / "x").mkdir(exist_ok=True)
            assert llama.session_save(given).path == tmp_path / "s"
            assert llama.session_load(given).path == tmp_path / "s"
            assert llama.session_verify(given).path == tmp_path / "s"


def test_the_names_of_parts_can_be_told_with_certainty(tmp_path: Path) -> None:
    seen: list[str] = []
    replace_file(tmp_path / ("x" * 255), lambda file: seen.extend(os.listdir(tmp_path)))
    assert re.fullmatch(r"\.llama-bridge-[0-9a-f]{8}-[0-9a-f]{16}\.part", seen[0])
