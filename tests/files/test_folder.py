"""Named sessions that outlive the process: one folder, one owner, written in the background."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llama_bridge import (
    ContextOverflow,
    InvalidInput,
    LlamaBridge,
    Mode,
    ModelParams,
    SamplingParams,
    SessionCorrupt,
    SessionMismatch,
    SessionsLocked,
    SessionWriteError,
    UnsupportedCapability,
)
from llama_bridge.files.folder import SessionFolder
from llama_bridge.testing import FakeLlama
from tests.forging import forge
from tests.ledger import GREEDY, assert_ledger_rule, machine
from tools.random_model import write_model

NAMES = (
    *(
        "work",
        "Work",
        "a/b",
        "..",
        ".hidden",
        "CON",
        "con",
        "lpt1",
        "ÄÖ 日本",
        "%2f",
        " ",
        "x" * 200,
        "\n",
    ),
    *("end.", "end. ", "\x00\x1b", "~", "$HOME"),
)
SHORT = SamplingParams(temperature=0, max_tokens=4)


def _bridge(folder: Path, **more: object) -> LlamaBridge:
    return LlamaBridge("demo", backend="native", sessions_dir=folder, **more)  # type: ignore[arg-type]


def test_a_named_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    with _bridge(tmp_path / "new" / "folder") as llama:
        work = llama.session("work")
        work.generate("Hello! My name is Zorvane.", sampling=GREEDY)
        said = work.messages
        asked = work.fork("x").generate_continue("What is my name?", sampling=GREEDY)
        llama.session("x").delete()
    command = (
        "import sys; from llama_bridge import LlamaBridge, SamplingParams\n"
        "llama = LlamaBridge('demo', backend='native', sessions_dir=sys.argv[1])\n"
        "print(llama.sessions(), llama.session('work').messages == eval(sys.argv[2]))\n"
        "answer = llama.session('work').generate_continue('What is my name?',\n"
        "    sampling=SamplingParams(temperature=0))\n"
        "print(answer, answer.mode.name, answer.usage.evaluated_tokens)\n"
        # neither flushed nor closed: it is kept all the same
    )
    run = [sys.executable, "-c", command, str(tmp_path / "new" / "folder")]
    output = subprocess.run([*run, repr(said)], check=True, capture_output=True, text=True).stdout
    expected = f"Your name is Zorvane. CONTINUED {asked.usage.evaluated_tokens}"
    assert output.splitlines() == ["['work'] True", expected]
    with _bridge(tmp_path / "new" / "folder") as llama:
        assert llama.session("work").messages[-1]["content"] == "Your name is Zorvane."
        again = llama.session("work").generate_continue("What is my name?", sampling=GREEDY)
        assert "Zorvane" in again.text
        assert_ledger_rule(llama)


def test_the_folder_is_its_owners_alone_and_the_own_session_is_not_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    with _bridge(folder) as llama:
        llama.generate("Hello!", sampling=SHORT)
        llama.sessions_flush()
        assert folder.stat().st_mode & 0o077 == 0
        assert os.listdir(folder) == [".lock"]


def test_every_name_has_a_file_of_its_own(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        for name in NAMES:
            llama.session(name).generate(f"{name!r}", sampling=SHORT, chat=False)
        tokens = {name: llama.session(name).tokens for name in NAMES}
        with pytest.raises(InvalidInput, match="too long"):
            llama.session("x" * 300).generate("Hello!", sampling=SHORT)
        with pytest.raises(InvalidInput, match="too long"):
            llama.session_fork("日" * 100)
    files = [file for file in os.listdir(tmp_path) if file != ".lock"]
    assert all(re.fullmatch(r"[a-z0-9%_-]+\.session", file) for file in files)
    assert not {file.partition(".")[0] for file in files} & {"con", "lpt1"}, "devices, on Windows"
    assert len({file.casefold() for file in files}) == len(NAMES)
    (tmp_path / "notes.txt").write_text("not a session")
    (tmp_path / "Upper.session").write_text("a name that this folder does not give")
    with _bridge(tmp_path) as llama:
        assert set(llama.sessions()) == set(NAMES)
        assert {name: llama.session(name).tokens for name in NAMES} == tokens


def test_every_change_reaches_the_file(tmp_path: Path) -> None:
    def kept(name: str) -> list[str]:
        # another bridge's view: a copy of the folder, since this one is in use
        llama.sessions_flush()
        other = tmp_path / f"copy-{time.monotonic_ns()}"
        other.mkdir()
        for file in folder.glob("*.session"):
            (other / file.name).write_bytes(file.read_bytes())
        with _bridge(other) as reader:
            return [m["content"] for m in reader.session(name).messages]

    folder = tmp_path / "sessions"
    with _bridge(folder) as llama:
        work = llama.session("work")
        work.generate("Hello! My name is Zorvane.", sampling=GREEDY)
        assert len(kept("work")) == 2
        work.generate_continue("Thanks!", sampling=GREEDY)
        assert len(kept("work")) == 4
        branch = work.fork("branch")
        assert kept("branch") == kept("work")
        branch.rewind()
        assert len(kept("branch")) == 2
        stream = work.generate_continue_stream("Who are you?", sampling=GREEDY)
        next(stream)
        stream.close()
        assert len(kept("work")) == 6
        for _ in work.generate_continue_stream("What is a KV cache?", sampling=GREEDY):
            llama.cancel()
        assert len(kept("work")) == 8
        work.regenerate(sampling=GREEDY)
        assert kept("work")[-1] == work.messages[-1]["content"]
        branch.delete()
        assert kept("branch") == []
        work.save(tmp_path / "outside.session")
        work.reset()
        assert kept("work") == []
        work.load(tmp_path / "outside.session")
        assert len(kept("work")) == 8
        work.delete()
    assert os.listdir(folder) == [".lock"]


def test_a_second_bridge_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        with pytest.raises(SessionsLocked, match="close it, or give another folder"):
            _bridge(tmp_path)
        code = (
            "import sys; from llama_bridge import *\ntry: LlamaBridge(sessions_dir=sys.argv[1])\n"
        )
        code += "except SessionsLocked as error: print(type(error).__name__)"
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == "SessionsLocked"
        llama.session("a").generate("Hello!", sampling=SHORT)
    with _bridge(tmp_path) as llama:
        assert llama.sessions() == ["a"]
    # One that cannot load its model does not keep the folder.
    with pytest.raises(FileNotFoundError):
        LlamaBridge("/missing.gguf", sessions_dir=tmp_path)
    _bridge(tmp_path).close()


def test_a_bridge_that_is_closed_from_inside_a_call_gives_its_folder_back(tmp_path: Path) -> None:
    llama = _bridge(tmp_path)
    for name in ("work", "other"):
        llama.session(name).generate("Hello!", sampling=SHORT)
    answer = llama.session("work").generate_continue("And?", on_progress=lambda _: llama.close())
    assert answer.finish_reason == "cancelled"
    with _bridge(tmp_path) as again:
        assert sorted(again.sessions()) == ["other", "work"]
        assert again.session("work").n_turns == again.session("other").n_turns == 1


def test_a_bridge_that_is_dropped_gives_its_folder_back_with_all_in_it(tmp_path: Path) -> None:
    llama = _bridge(tmp_path)
    llama.session("a").generate("Hello!", sampling=SHORT)
    del llama
    gc.collect()
    end = time.monotonic() + 10
    while True:
        try:
            llama = _bridge(tmp_path)
            break
        except SessionsLocked:
            assert time.monotonic() < end
            time.sleep(0.01)
    with llama:
        assert len(llama.session("a").messages) == 2


def test_a_forked_child_takes_nothing_away(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
        child = multiprocessing.get_context("fork").Process(target=llama.close)
        child.start()
        child.join(20)
        assert child.exitcode is not None
        with pytest.raises(SessionsLocked):
            _bridge(tmp_path)
        llama.session("a").generate_continue("Thanks!", sampling=SHORT)
    with _bridge(tmp_path) as llama:
        assert len(llama.session("a").messages) == 4


def test_a_child_that_is_forked_while_the_writer_is_at_it_still_lists_what_is_there(
    tmp_path: Path,
) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
        llama.sessions_flush()
        assert llama._folder is not None
        with llama._folder._mutex:
            child = multiprocessing.get_context("fork").Process(target=llama.sessions)
            child.start()
        child.join(20)
        assert child.exitcode == 0
        child.kill()


def test_a_file_of_another_model_is_refused_and_stays(tmp_path: Path) -> None:
    write_model(tmp_path / "other.gguf", architecture="llama")
    folder = tmp_path / "sessions"
    with _bridge(folder) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
    before = (folder / "a.session").read_bytes()
    with LlamaBridge(tmp_path / "other.gguf", backend="native", sessions_dir=folder) as llama:
        llama.generate("x", sampling=SHORT, chat=False)
        with pytest.raises(SessionMismatch, match="model"):
            llama.session("a").generate("Hello!", sampling=SHORT, chat=False)
        with pytest.raises(SessionMismatch):
            _ = llama.session("a").messages
        assert llama.session().active
        assert llama.generate_continue("y", sampling=SHORT, chat=False).mode is Mode.CONTINUED
        with pytest.raises(SessionMismatch):
            llama.session("a").load(folder / "a.session")
    assert (folder / "a.session").read_bytes() == before


def test_the_way_out_of_a_mismatch_works(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello! My name is Zorvane.", sampling=GREEDY)
    file = tmp_path / "a.session"
    forge(file, manifest={"model.weights": "0" * 64})
    with _bridge(tmp_path) as llama:
        with pytest.raises(SessionMismatch, match="replay=True"):
            llama.session("a").generate_continue("What is my name?", sampling=GREEDY)
        assert llama.session("a").load(file, replay=True).replayed
        assert (
            "Zorvane"
            in llama.session("a").generate_continue("What is my name?", sampling=GREEDY).text
        )
    with _bridge(tmp_path) as llama:
        assert len(llama.session("a").messages) == 4


def test_the_same_model_in_another_setting_evaluates_again_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello! My name is Zorvane.", sampling=GREEDY)
        n_tokens = len(llama.session("a").tokens)
    with _bridge(tmp_path, params=ModelParams(type_k="f32", type_v="f32")) as llama:
        answer = llama.session("a").generate_continue("What is my name?", sampling=GREEDY)
        assert "Zorvane" in answer.text
        assert answer.usage.cached_tokens == 0
        assert answer.usage.evaluated_tokens > n_tokens
        assert "context.kv_type_k differs" in caplog.text
        llama.session("long").generate("one two three " * 100, sampling=SHORT, chat=False)
    with (
        _bridge(tmp_path, params=ModelParams(n_ctx=64)) as llama,
        pytest.raises(ContextOverflow, match="n_ctx="),
    ):
        llama.session("long").generate_continue("Thanks!", sampling=SHORT)


def test_a_damaged_file_is_told_and_can_be_deleted(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
    file = tmp_path / "a.session"
    file.write_bytes(file.read_bytes()[:-60] + bytes(60))
    with _bridge(tmp_path) as llama:
        with pytest.raises(SessionCorrupt, match=r"a\.session"):
            llama.session("a").generate_continue("Hello!", sampling=SHORT)
        assert llama.sessions() == [], "without its footer it could be anybody's"
        llama.session("a").delete()
        assert llama.session("a").generate_continue("Hello!", sampling=SHORT).mode is Mode.FRESH


def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for taken in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SessionWriteError, match="sessions_dir: there is a file in its place"):
            _bridge(taken)
    with pytest.raises(SessionWriteError, match="sessions_dir"):
        _bridge(Path("/proc/nothing/here"))
    for wrong in ("", "a\0b", 3, b"x"):
        with pytest.raises(InvalidInput, match="sessions_dir"):
            LlamaBridge("demo", sessions_dir=wrong)  # type: ignore[arg-type]
    for disk in (-1, 1.5, "1", True):
        with pytest.raises(InvalidInput, match="sessions_disk"):
            _bridge(tmp_path, sessions_disk=disk)
    for limit in (0, -1, 1.5, "1", True):
        with pytest.raises(InvalidInput, match="sessions_limit"):
            _bridge(tmp_path, sessions_limit=limit)
    assert not list(tmp_path.glob("*.session"))


def test_a_backend_without_persistence_refuses_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCapability, match="session_persistence"):
        LlamaBridge("demo", backend="wasm", sessions_dir=tmp_path)
    _bridge(tmp_path).close()


@pytest.mark.usefixtures("native_backend")
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    # A limit on the size of files stands for the full disk: the write fails in the middle.
    code = """
import json, logging, resource, signal, sys
from llama_bridge import LlamaBridge, SamplingParams, SessionWriteError
logging.disable(logging.CRITICAL)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, short = sys.argv[1], SamplingParams(temperature=0, max_tokens=4)
llama = LlamaBridge('demo', backend='native', sessions_dir=folder)
work = llama.session('work')
work.generate('Hello!', sampling=short)
llama.sessions_flush()
soft = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, soft[1]))
work.generate_continue('Thanks!', sampling=short)
failures = 0
for _ in range(2):
    try: llama.sessions_flush()
    except SessionWriteError as error: failures += 1
old = open(folder + '/work.session', 'rb').read()
try: llama.close()
except SessionWriteError: failures += 1
resource.setrlimit(resource.RLIMIT_FSIZE, soft)
print(json.dumps([failures, len(old)]))
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    failures, size = json.loads(done.stdout)
    assert failures == 3
    assert (tmp_path / "work.session").stat().st_size == size > 20_000
    assert sorted(os.listdir(tmp_path)) == [".lock", "work.session"]
    with _bridge(tmp_path) as llama:
        assert len(llama.session("work").messages) == 2  # the old file, whole


def test_a_failed_write_is_made_good_when_the_disk_has_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    with _bridge(folder) as llama:
        work = llama.session("work")
        work.generate("Hello!", sampling=SHORT)
        llama.sessions_flush()
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )
        try:
            work.generate_continue("Thanks!", sampling=SHORT)
            with pytest.raises(SessionWriteError, match="cannot be written"):
                llama.sessions_flush()
        finally:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        llama.sessions_flush()
    with _bridge(folder) as llama:
        assert len(llama.session("work").messages) == 4


def test_of_several_failed_writes_each_is_named(tmp_path: Path) -> None:
    with _bridge(tmp_path / "sessions") as llama:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        try:
            for name in ("one", "two", "three"):
                llama.session(name).generate("Hello!", sampling=SHORT)
            llama.session("four").generate("Hello!", sampling=SHORT)
            with pytest.raises(SessionWriteError) as caught:
                llama.sessions_flush()
            told = " ".join([str(caught.value), *caught.value.__notes__])  # the last may be first
            for name in ("one", "two", "three", "four"):
                assert f"{name}.session" in told
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_two_threads_on_one_folder(tmp_path: Path) -> None:
    with _bridge(tmp_path, session_memory=200_000) as llama:
        failed: list[BaseException] = []

        def talk(mine: str) -> None:
            try:
                for turn in range(6):
                    for name in (f"{mine}1", f"{mine}2", "shared"):
                        llama.session(name).generate_continue(f"{mine} {turn}", sampling=SHORT)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=talk, args=(name,)) for name in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not failed
        said = {name: llama.session(name).messages for name in llama.sessions()}
    assert len(said["shared"]) == 24
    with _bridge(tmp_path) as llama:
        assert {name: llama.session(name).messages for name in llama.sessions()} == said
        for name in said:
            llama.session(name).generate_continue("Who are you?", sampling=SHORT)
            assert machine(llama).kv.tokens == list(llama.session(name).tokens)


def test_a_newer_state_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    folder = SessionFolder.open(tmp_path, 1 << 30)
    gate, written = threading.Event(), list[str]()

    def slow(path: str) -> None:
        gate.wait(20)
        written.append("first")

    folder.keep("a", slow, 10)
    for i in range(5):
        folder.keep("b", lambda path, i=i: written.append(f"b{i}"), 200 << 20)  # type: ignore[misc]
    assert folder.names() == ["a", "b"]
    over = threading.Thread(target=folder.keep, args=("c", lambda path: None, 200 << 20))
    over.start()
    over.join(0.2)
    assert over.is_alive()  # more than may wait for the disk
    gate.set()
    over.join(20)
    folder.close()
    assert written == ["first", "b4"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open scandirs
def test_an_interrupt_leaves_no_lock_of_the_folder_behind(tmp_path: Path) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    try:
        with FakeLlama("fine") as fake:
            llama = LlamaBridge(fake.model.path, backend=fake.fake, sessions_dir=tmp_path)
            llama.session("a").generate("hi")
            hits = 0
            for i in range(3000):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 5e-6 + (i % 40) * 1e-6)
                    llama.sessions()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    hits += 1
            found: list[list[str]] = []
            thread = threading.Thread(target=lambda: found.append(llama.sessions()), daemon=True)
            thread.start()
            thread.join(10)
            assert found == [["a"]]
            assert hits > 10
            llama.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_writer_that_was_interrupted_at_its_start_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, pressed = threading.Thread.start, list[bool]()

    def press(thread: threading.Thread) -> None:
        if thread.name == "llama-bridge-sessions" and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", press)
    folder = SessionFolder.open(tmp_path, 1 << 30)
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        folder.keep("a", written.append, 1)
    closing = threading.Thread(target=folder.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert written == [folder.file("a")]


@pytest.mark.usefixtures("native_backend")
def test_garbage_that_is_collected_by_the_writer_is_kept_and_nobody_waits(tmp_path: Path) -> None:
    code = """
import gc, sys, threading
from llama_bridge import LlamaBridge, SamplingParams
gc.disable()
llama = LlamaBridge("demo", backend="native", sessions_dir=sys.argv[1])
stream = llama.session("a").generate_stream("Hello!", sampling=SamplingParams(temperature=0))
next(stream)
folder, begun, go_on = llama._folder, threading.Event(), threading.Event()

def collect(path):
    begun.set()
    go_on.wait(20)
    gc.collect()

folder.keep("big", collect, 300 << 20)
begun.wait(20)
cycle = [llama, stream]
cycle.append(cycle)
del llama, stream, cycle, folder
go_on.set()
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with _bridge(tmp_path) as llama:
        assert len(llama.session("a").messages) == 2


@pytest.mark.usefixtures("native_backend")
def test_a_half_read_answer_is_kept_where_the_interpreter_ends_without_close(
    tmp_path: Path,
) -> None:
    code = """
import sys
from llama_bridge import LlamaBridge, SamplingParams
llama = LlamaBridge("demo", backend="native", sessions_dir=sys.argv[1])
llama.session("a").generate("My name is Zorvane.", sampling=SamplingParams(temperature=0))
stream = llama.session("a").generate_continue_stream("Who are you?")
next(stream)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    with _bridge(tmp_path) as llama:
        messages = llama.session("a").messages
        assert [m["content"] for m in messages[::2]] == ["My name is Zorvane.", "Who are you?"]
        assert messages[-1]["content"]


@pytest.mark.usefixtures("native_backend")
def test_a_thread_that_never_comes_back_does_not_keep_the_interpreter(tmp_path: Path) -> None:
    code = """
import sys, threading
from llama_bridge import LlamaBridge
from llama_bridge.local import local_runtime
local_runtime._ENDING = 0.2
llama = LlamaBridge("demo", backend="native", sessions_dir=sys.argv[1])
stuck = threading.Event()

def stand(step):
    stuck.set()
    threading.Event().wait()

threading.Thread(target=llama.generate, args=("Hello!",), kwargs={"on_progress": stand}, daemon=True).start()
stuck.wait(20)
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(run, capture_output=True, timeout=60).returncode == 0


def test_the_writers_own_thread_is_told_that_it_cannot_wait_for_itself(tmp_path: Path) -> None:
    folder, told = SessionFolder.open(tmp_path, 1 << 30), list[str]()

    def ask(path: str) -> None:
        for use in (folder.flush, lambda: folder.has("a"), lambda: folder.keep("a", ask, 1)):
            try:
                use()
            except SessionWriteError as error:
                told.append(error.reason)

    folder.keep("a", ask, 1)
    folder.close()
    assert len(told) == 3
