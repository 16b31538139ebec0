"""Links, pipes and folders where session files should be; locks and folders that somebody removes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import (
    BridgeError,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    SessionCorrupt,
    SessionsLocked,
    SessionWriteError,
)
from llama_bridge.files.folder import SessionFolder
from llama_bridge.testing import FakeLlama

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="needs session files")
SHORT = SamplingParams(temperature=0, max_tokens=4)


def _bridge(folder: Path, **more: object) -> LlamaBridge:
    return LlamaBridge("demo", backend="native", sessions_dir=folder, **more)  # type: ignore[arg-type]


def _put(kind: str, place: Path) -> Path:
    """Something in the place of a session file; gives what must stay as it is."""
    victim = place.parent.parent / "victim"
    if kind == "link":
        victim.write_text("precious")
        place.symlink_to(victim)
    elif kind == "link to a session":
        with LlamaBridge("demo", backend="native") as llama:
            llama.generate("Hello!", sampling=SHORT)
            llama.session_save(victim)
        place.symlink_to(victim)
    elif kind == "dangling link":
        place.symlink_to(victim)
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
        (place / "x").write_text("mine")
    return victim


@pytest.mark.parametrize(
    "kind", ["link", "link to a session", "dangling link", "loop", "pipe", "folder"]
)
def test_what_is_no_file_in_a_sessions_place_is_told_and_stays(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    place = folder / "w.session"
    victim = _put(kind, place)
    before = victim.read_bytes() if victim.exists() else None
    what = place.lstat()
    llama = _bridge(folder, sessions_disk=0, sessions_limit=1)
    work = llama.session("w")
    for use in (
        lambda: work.generate("Hello!", sampling=SHORT),
        lambda: work.messages,
        lambda: work.tokens,
    ):
        with pytest.raises(SessionCorrupt, match=r"not followed|not a regular file|is a directory"):
            use()
    with pytest.raises(SessionWriteError):
        work.delete()
    # Its name can hold a conversation that comes from elsewhere, and that is not written over it.
    work.reset()
    work.generate("Hello!", sampling=SHORT)
    llama.session("other").generate("Hello!", sampling=SHORT)
    with pytest.raises(SessionWriteError, match=r"w\.session"):
        llama.sessions_flush()
    assert len(work.messages) == 2, "it is in memory"
    with pytest.raises(SessionWriteError, match=r"w\.session"):
        llama.close()
    now = place.lstat()
    assert (now.st_mode, now.st_ino) == (what.st_mode, what.st_ino)
    assert (victim.read_bytes() if victim.exists() else None) == before
    assert (folder / "other.session").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_told_and_stays(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    victim = _put(kind, folder / ".lock")
    with pytest.raises(SessionWriteError, match="sessions_dir"):
        _bridge(folder)
    assert not victim.exists() or victim.read_text() == "precious"
    what = (folder / ".lock").lstat()
    assert what.st_ino == (folder / ".lock").lstat().st_ino


def test_a_removed_lock_lets_nobody_in(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
        (tmp_path / ".lock").unlink()
        with pytest.raises(SessionsLocked):
            SessionFolder.open(tmp_path, 1 << 30)
        (tmp_path / ".lock").unlink(missing_ok=True)
        (tmp_path / ".lock").write_text("somebody else's")
        with pytest.raises(SessionsLocked):
            SessionFolder.open(tmp_path, 1 << 30)
        llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        llama.sessions_flush()
        code = (
            "import sys; from llama_bridge import *\n"
            "try: SessionFolder.open(sys.argv[1], 0); print('in')\n"
            "except SessionsLocked: print('out')"
        )
        run = [sys.executable, "-c", code, str(tmp_path)]
        assert subprocess.run(run, capture_output=True, text=True).stdout == "out\n"
    SessionFolder.open(tmp_path, 1 << 30).close()


def test_a_forked_child_that_ends_does_not_unlock(tmp_path: Path) -> None:
    code = """
import os, sys
from llama_bridge import *
from llama_bridge.files.folder import SessionFolder
folder = SessionFolder.open(sys.argv[1], 0)
if (child := os.fork()) == 0:
    del folder
    sys.exit()
os.waitpid(child, 0)
try: SessionFolder.open(sys.argv[1], 0); print("in")
except SessionsLocked: print("out")
"""
    run = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "out\n"


def test_a_folder_that_is_removed_comes_back_with_all_that_is_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with _bridge(folder) as llama:
        for name in "abc":
            llama.session(name).generate(f"My name is {name}.", sampling=SHORT)
        llama.sessions_flush()
        shutil.rmtree(folder)
        assert llama.sessions() == ["a", "b", "c"]
        assert llama.session("unknown").messages == []
        assert len(llama.session("a").messages) == 2
        llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        llama.sessions_flush()
        llama.session("a").fork("d")
        llama.session("c").delete()
        llama.sessions_flush()
        with pytest.raises(SessionsLocked):
            SessionFolder.open(folder, 0)
        shutil.rmtree(folder)
        folder.mkdir()
        llama.session("d").generate_continue("More", sampling=SHORT)
        llama.sessions_flush()
        shutil.rmtree(folder)
    with _bridge(folder) as llama:
        said = {name: len(llama.session(name).messages) for name in llama.sessions()}
    assert said == {"a": 4, "b": 2, "d": 6}


def test_a_removed_folder_with_no_memory_for_states_loses_no_words(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with _bridge(folder, session_memory=0) as llama:
        for name in "abc":
            llama.session(name).generate(f"My name is {name}.", sampling=SHORT)
        llama.sessions_flush()
        shutil.rmtree(folder)
        for name in "ab":
            answer = llama.session(name).generate_continue("Thanks!", sampling=SHORT)
            assert answer.mode is Mode.CONTINUED
            assert answer.usage.evaluated_tokens > 10, "the KV cache is gone"
    with _bridge(folder) as llama:
        assert {n: len(llama.session(n).messages) for n in llama.sessions()} == {
            "a": 4,
            "b": 4,
            "c": 2,
        }


def test_a_folder_that_another_bridge_made_anew_is_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    llama = _bridge(folder)
    llama.session("a").generate("Hello!", sampling=SHORT)
    llama.sessions_flush()
    shutil.rmtree(folder)
    with _bridge(folder) as other:
        other.session("a").generate("Who are you?", sampling=SHORT)
        other.sessions_flush()
        theirs = (folder / "a.session").read_bytes()
        llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        with pytest.raises(SessionsLocked):
            llama.sessions_flush()
        with pytest.raises(SessionsLocked):
            llama.session("a").delete()
    with pytest.raises(SessionsLocked):  # also when it is closed: their files are there
        llama.close()
    assert (folder / "a.session").read_bytes() == theirs


def test_a_file_stands_where_the_folder_was(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    llama = _bridge(folder)
    llama.session("a").generate("Hello!", sampling=SHORT)
    llama.sessions_flush()
    shutil.rmtree(folder)
    folder.write_text("precious")
    assert llama.sessions() == ["a"]
    assert llama.session("b").messages == []
    llama.session("a").generate_continue("Thanks!", sampling=SHORT)
    assert len(llama.session("a").messages) == 4
    with pytest.raises(SessionWriteError):
        llama.close()
    assert folder.read_text() == "precious"


def test_a_folder_that_cannot_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    with FakeLlama("fine") as fake:
        llama = LlamaBridge(fake.model.path, backend=fake.fake, sessions_dir=tmp_path)
        llama.session("a").generate("hi")
        llama.sessions_flush()
        monkeypatch.setattr(os, "scandir", refuse)
        monkeypatch.setattr(os, "lstat", refuse)
        for use in (llama.sessions, lambda: llama.session("b").tokens):
            with pytest.raises(BridgeError, match="Permission denied"):
                use()
        assert len(llama.session("a").messages) == 2
        monkeypatch.undo()
        llama.close()


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.session").write_text("my notes")
    llama = _bridge(tmp_path)
    notes = llama.session("notes")
    with pytest.raises(SessionCorrupt):
        notes.generate("Hello!", sampling=SHORT)
    notes.reset()
    notes.generate("Hello!", sampling=SHORT)
    with pytest.raises(SessionWriteError, match="left alone"):
        llama.sessions_flush()
    assert (tmp_path / "notes.session").read_text() == "my notes"
    notes.delete()  # asked for by name
    notes.generate("Hello!", sampling=SHORT)
    llama.close()
    assert (tmp_path / "notes.session").stat().st_size > 1000


@pytest.mark.parametrize("removed", ["file", "folder"])
def test_what_was_seen_of_a_session_outlives_its_file(removed: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with _bridge(folder) as llama:
        llama.session("x").generate_continue("My name is Zorvane.", temperature=0)
    with _bridge(folder) as llama:
        session = llama.session("x")
        tokens, said = session.tokens, session.messages
        if removed == "file":
            (folder / "x.session").unlink()
        else:
            shutil.rmtree(folder)
        assert (session.tokens, session.messages) == (tokens, said)
        assert (session.active, session.n_turns) == (True, 1)
        assert llama.sessions() == ["x"], "what can be continued is listed"
        with pytest.raises(InvalidInput, match="already a session named 'x'"):
            llama.session_fork("x")
        answer = session.generate_continue("What is my name?", temperature=0)
        assert answer.mode is Mode.CONTINUED
        assert "Zorvane" in answer.text
        assert session.messages[: len(said)] == said
        llama.sessions_flush()
        assert (folder / "x.session").is_file()
        session.delete()
        assert (session.active, session.n_turns, llama.sessions()) == (False, 0, [])


def test_what_the_limit_deleted_is_not_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with _bridge(folder) as llama:
        for name in "ab":
            llama.session(name).generate("Hello!", max_tokens=2)
            llama.sessions_flush()
    with _bridge(folder, sessions_limit=2) as llama:
        assert [llama.session(name).n_turns for name in "ab"] == [1, 1]
        llama.session("c").generate("Hello!", max_tokens=2)
        llama.sessions_flush()
        assert llama.sessions() == ["b", "c"]
        assert [llama.session(name).n_turns for name in "abc"] == [0, 1, 1]
