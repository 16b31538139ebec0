"""What once broke the bridge: each of these lost something, hung, or ended the process."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    BackendUnavailable,
    BridgeError,
    ContextOverflow,
    EngineError,
    InvalidInput,
    InvalidModel,
    LlamaBridge,
    ModelError,
    ModelNotFound,
    ModelParams,
    Progress,
    SamplingParams,
    SessionCorrupt,
    SessionMismatch,
    SessionWriteError,
    registry,
)
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.ledger import GREEDY, assert_ledger_rule, engine_of, machine

BACKENDS = pytest.mark.parametrize("backend", ["native", "wasm"])
posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")


def random_model(path: Path, **shape: Any) -> None:
    from tools.random_model import write_model  # numpy: not in a page

    write_model(path, **shape)


def test_a_stream_can_be_ended_while_another_thread_reads_it() -> None:
    with FakeLlama([FakeAnswer("a long answer", token_seconds=0.2), "more"]) as llama:
        stream = llama.generate_stream("go")
        next(stream)
        reader = threading.Thread(target=lambda: next(stream, None))
        reader.start()
        time.sleep(0.05)
        stream.close()
        reader.join(10)
        assert not reader.is_alive()
        assert stream.result.finish_reason == "cancelled"
        assert llama.generate("again").text


def test_close_during_a_slow_step_ends_it() -> None:
    llama = FakeLlama([FakeAnswer("x" * 500, token_seconds=0.05)])
    stream = llama.generate_stream("go")
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    time.sleep(0.1)
    llama.close()
    reader.join(10)
    assert not reader.is_alive()


def test_a_cancel_while_the_prompt_is_planned_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLlama("answer") as llama:
        engine = engine_of(llama)
        tokenize = engine.tokenize

        def slow(text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            llama.cancel()
            return tokenize(text, add_special=add_special, parse_special=parse_special)

        monkeypatch.setattr(engine, "tokenize", slow)
        assert llama.generate("go").finish_reason == "cancelled"


def test_a_refused_call_leaves_the_open_stream_alone(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("Who are you?", sampling=GREEDY)
    said = next(stream)
    with pytest.raises(InvalidInput, match="no setting of that name"):
        llama.generate("x", temprature=0)  # type: ignore[call-arg]
    with pytest.raises(InvalidInput):
        llama.generate("")
    with pytest.raises(InvalidInput):
        llama.generate("x", stop=5)  # type: ignore[arg-type]
    assert llama.detokenize(llama.tokenize("abc")).strip() == "abc"
    assert llama.apply_chat_template([{"role": "user", "content": "x"}])
    rest = "".join(stream)
    assert said + rest == stream.result.text
    assert stream.result.finish_reason == "stop"


def test_text_held_back_for_a_stop_string_is_given_out_when_cancelled(llama: LlamaBridge) -> None:
    whole = llama.generate("Who are you?", sampling=GREEDY).text
    stream = llama.generate_stream("Who are you?", sampling=GREEDY, stop=whole + "never")
    llama_thread = threading.Timer(0.0, llama.cancel)
    deltas: list[str] = []
    llama_thread.start()
    deltas += stream
    llama_thread.join()
    assert "".join(deltas) == stream.result.text


def test_a_stop_string_of_replacement_characters_cuts_nothing_wrong() -> None:
    with FakeLlama("ok") as llama:
        engine = engine_of(llama)
        drawn = iter([0xE6, 0x89, 0x41, min(engine.info.end_of_generation)])
        engine.sample = lambda: next(drawn)  # type: ignore[method-assign]

        def step(token: int) -> int:
            engine._tokens.append(token)  # type: ignore[attr-defined]
            return next(drawn)

        engine.step = step  # type: ignore[method-assign]
        answer = llama.generate("x", chat=False, stop="\ufffd")
        assert answer.finish_reason == "stop"
        assert len(machine(llama).kv.tokens) == engine.length


@BACKENDS
def test_a_stop_string_in_the_last_token_of_a_full_context(backend: str, tmp_path: Path) -> None:
    random_model(tmp_path / "m.gguf", vocab="gpt-2", seed=2)
    params = ModelParams(n_ctx=256)
    with LlamaBridge(tmp_path / "m.gguf", backend=backend, params=params) as llama:
        prompt = " one" * 250
        full = SamplingParams(temperature=0, max_tokens=None)
        whole = llama.generate(prompt, chat=False, sampling=full)
        for stop in {c for c in whole.text[-6:] if c.strip()}:
            answer = llama.generate(prompt, chat=False, sampling=full, stop=stop)
            assert stop not in answer.text
            assert engine_of(llama).length == len(llama.session().tokens)


@pytest.mark.requires_capability("kv_continuation")
def test_raw_text_goes_on_inside_a_word(llama_backend: str, tmp_path: Path) -> None:
    random_model(tmp_path / "m.gguf", vocab="llama-spm")
    one = SamplingParams(temperature=0, max_tokens=1)
    with LlamaBridge(tmp_path / "m.gguf", backend=llama_backend) as llama:
        llama.generate("The capital of France is Par", chat=False, sampling=one)
        held = len(llama.session().tokens)
        llama.generate_continue("is", chat=False, sampling=one)
        assert llama.detokenize(llama.session().tokens[held:]).startswith("is")
        assert llama.session().tokens.count(llama.info.bos or 0) == 1


def test_bos_stands_once_however_the_prompt_is_given(llama: LlamaBridge) -> None:
    text = llama.apply_chat_template([{"role": "user", "content": "Hello!"}])
    chat = llama.generate("Hello!", sampling=GREEDY).usage.prompt_tokens
    assert llama.generate(text, chat=False, sampling=GREEDY).usage.prompt_tokens == chat
    assert llama.info.bos is None or llama.session().tokens.count(llama.info.bos) == 1


def test_a_long_run_of_one_character_does_not_end_the_process(tmp_path: Path) -> None:
    random_model(tmp_path / "m.gguf", vocab="deepseek-llm")
    with LlamaBridge(tmp_path / "m.gguf", backend="native") as llama:
        assert len(llama.tokenize("a" * 60_000)) > 1000
        with pytest.raises(ContextOverflow):
            llama.generate("a" * 60_000, chat=False)


@BACKENDS
@pytest.mark.parametrize("params", [{"type_k": "q8_0"}, {"type_v": "q4_0"}])
def test_a_quantised_cache_for_odd_heads_is_refused(
    backend: str, params: dict[str, str], tmp_path: Path
) -> None:
    random_model(tmp_path / "m.gguf", n_embd=96, n_head=4, n_head_kv=2)
    with pytest.raises(InvalidInput, match="multiple of 32"):
        LlamaBridge(tmp_path / "m.gguf", backend=backend, params=ModelParams(**params))  # type: ignore[arg-type]


@BACKENDS
@pytest.mark.parametrize(
    ("key", "form", "value"),
    [
        ("llama.block_count", "<I", 0),
        ("llama.block_count", "<I", 5000),
        ("llama.attention.layer_norm_rms_epsilon", "<f", -1.0),
        ("llama.attention.layer_norm_rms_epsilon", "<f", float("nan")),
    ],
)
def test_numbers_that_llama_cpp_only_asserts_are_refused(
    backend: str, key: str, form: str, value: float, tmp_path: Path
) -> None:
    data = bytearray(open_model("demo").path.read_bytes())
    at = data.index(key.encode()) + len(key) + 4
    data[at : at + 4] = struct.pack(form, value)
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(InvalidModel, match=key.rpartition(".")[2]):
        LlamaBridge(tmp_path / "m.gguf", backend=backend)


@posix
def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(InvalidModel, match="not a regular file"):
            LlamaBridge(path)
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello!", sampling=GREEDY)
        with pytest.raises(SessionCorrupt, match="not a regular file"):
            llama.session_load(pipe)
        for path in (pipe, Path("/dev/null")):
            with pytest.raises(SessionWriteError, match="not a regular file"):
                llama.session_save(path)
        assert not Path("/dev/null").is_file()
        assert pipe.is_fifo()


@pytest.mark.parametrize("path", [None, 5, b"bytes", "nul\0", "", "\ud800", "~no-such-user/x"])
def test_what_is_no_path_is_named(path: object) -> None:
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello!", sampling=GREEDY)
        for call in (llama.session_save, llama.session_load, llama.load_model):
            with pytest.raises(InvalidInput, match="is not a path"):
                call(path)  # type: ignore[arg-type]


@posix
@pytest.mark.parametrize("path", ["x" * 5000, "loop"])
def test_paths_that_the_system_refuses_are_typed_errors(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelError):
        LlamaBridge(tmp_path / path)


def test_a_model_replaced_on_the_disk_keeps_its_own_name(tmp_path: Path) -> None:
    demo = open_model("demo").path
    model = tmp_path / "m.gguf"
    model.write_bytes(demo.read_bytes())
    with LlamaBridge(model, backend="native") as llama:
        llama.generate("Hello!", sampling=GREEDY)
        other = tmp_path / "other"
        random_model(other)
        os.replace(other, model)
        llama.session_save(tmp_path / "s")
        model.unlink()
        llama.session_save(tmp_path / "again")
        assert llama.generate_continue("Thanks!", sampling=GREEDY).text
    with LlamaBridge(demo, backend="native") as llama:
        for saved in ("s", "again"):
            assert llama.session_load(tmp_path / saved).n_tokens


def test_a_file_replaced_before_its_fingerprint_was_taken_is_not_taken_for_the_model(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(open_model("demo").path.read_bytes())
    model = open_model(path)
    os.replace(_copy(path), path)
    with pytest.raises(InvalidModel, match="changed on the disk"):
        _ = model.fingerprint
    path.unlink()
    with pytest.raises(InvalidModel, match="changed on the disk"):
        _ = model.fingerprint


def _copy(path: Path) -> Path:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    return other


@pytest.mark.parametrize(
    "error",
    [
        ContextOverflow(10, 5),
        ModelNotFound("m.gguf", "no such file"),
        SessionMismatch("s", "format", 1, 2),
        EngineError("words"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_borders(error: BridgeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.__dict__) == (str(error), error.__dict__)


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "emscripten", reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_a_forked_child_is_told_to_load_again(backend: str) -> None:
    with LlamaBridge("demo", backend=backend, params=ModelParams(n_threads=2)) as llama:
        before = llama.generate("Hello!", sampling=GREEDY).text
        child = os.fork()
        if child == 0:
            try:
                llama.generate("Hello!", sampling=GREEDY)
            except EngineError:
                llama.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        llama.session_reset()
        assert llama.generate("Hello!", sampling=GREEDY).text == before
        assert_ledger_rule(llama)


def test_a_prompt_is_never_nothing(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().messages
    for call in (llama.generate, llama.generate_continue, llama.generate_stream):
        with pytest.raises(InvalidInput, match="prompt must be a str"):
            call(None)  # type: ignore[arg-type]
    assert llama.session().messages == before


HUGE = 10**5000
"""Its digits are more than Python will write."""


@pytest.mark.parametrize(
    "keywords",
    [
        {"temperature": 10**400},
        {"temperature": float("nan")},
        {"top_p": HUGE},
        {"seed": HUGE},
        {"top_k": HUGE},
        {"chat": 5},
        {"chat": "False"},
        {"on_progress": 5},
        {"stop": HUGE},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_a_value_beyond_all_bounds_is_named(llama: LlamaBridge, keywords: dict[str, Any]) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().messages
    with pytest.raises(InvalidInput, match=next(iter(keywords))):
        llama.generate("x", **keywords)
    assert llama.session().messages == before


def test_numbers_that_are_none_are_named(fake_llama: Callable[..., FakeLlama]) -> None:
    llama = fake_llama()
    llama.generate("one")
    wrong: Any
    for wrong in (0, -1, True, None, "1", [], 1.0, HUGE):
        with pytest.raises(InvalidInput):
            llama.session_rewind(wrong)
    for wrong in (HUGE, -1, 1.5, True, None):
        with pytest.raises(InvalidInput):
            llama.detokenize([wrong])
    for wrong in (-1, 1.5, "1", None, True):
        for name in ("session_memory", "sessions_disk"):
            with pytest.raises(InvalidInput, match=name):
                LlamaBridge(**{name: wrong})
    with pytest.raises(InvalidInput, match="n_ctx"):
        LlamaBridge(n_ctx=HUGE)
    with pytest.raises(InvalidInput, match="on_progress"):
        LlamaBridge(on_progress=5)  # type: ignore[arg-type]
    assert len(llama.session().messages) == 2


def test_a_function_that_would_have_to_be_awaited_is_refused(llama: LlamaBridge) -> None:
    async def report(step: Progress) -> None: ...

    with pytest.raises(InvalidInput, match=r"on_progress=.*without async"):
        llama.generate("x", on_progress=report)


@pytest.mark.parametrize("name", ["", b"x", True, 1.5, [], "\ud800"])
def test_a_fork_has_a_name_that_is_one(fake_llama: Callable[..., FakeLlama], name: Any) -> None:
    llama = fake_llama()
    llama.generate("one")
    with pytest.raises(InvalidInput, match="name"):
        llama.session_fork(name)
    assert llama.sessions() == []


def test_no_model_is_given_up_for_one_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with LlamaBridge("demo", sampling=GREEDY) as llama:
        for wrong in (5, tmp_path / "missing.gguf", tmp_path / "bad.gguf", tmp_path):
            with pytest.raises(BridgeError):
                llama.load_model(wrong, unload_first=True)  # type: ignore[arg-type]
            assert llama.generate("Hello!").text
        with pytest.raises(BackendUnavailable):
            LlamaBridge("demo", backend="nowhere")


def test_others_are_answered_while_the_model_is_changed() -> None:
    with LlamaBridge("demo", sampling=GREEDY) as llama:
        expected, stop = llama.generate("Hello!").text, threading.Event()
        wrong: list[object] = []

        def ask() -> None:
            while not stop.is_set():
                try:
                    if llama.generate("Hello!").text != expected or not llama.tokenize("abc"):
                        wrong.append("text")
                except BridgeError as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            llama.load_model("demo")
        stop.set()
        for thread in threads:
            thread.join(20)
        assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes")
@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_in_a_forked_child_nothing_waits_for_ever(backend: str, tmp_path: Path) -> None:
    registry.candidates(backend)
    code = """
import os, sys, threading, time
from llama_bridge import *
backend, folder = sys.argv[1:]
keeps = {"sessions_dir": folder} if backend == "native" else {}
llama = LlamaBridge("demo", backend=backend, **keeps)
stream = llama.generate_stream("Hello!"); next(stream)
if keeps:
    llama._folder.keep("slow", lambda path: time.sleep(2), 10)
if os.fork() == 0:
    def attempt(work):
        try: work(); return "fine"
        except BridgeError as error: return type(error).__name__
    calls = {
        "read": lambda: next(stream), "generate": lambda: llama.generate("x"),
        "tokenize": lambda: llama.tokenize("x"), "flush": llama.sessions_flush,
        "load": lambda: llama.load_model("demo"), "new": lambda: LlamaBridge("demo", backend=backend).close(),
        "close": llama.close,
    }
    print(*(f"{name}={attempt(call)}" for name, call in calls.items()), flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, backend, str(tmp_path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    again = "fine" if backend == "native" else "BackendUnavailable"
    flush = "SessionsLocked" if backend == "native" else "fine"
    assert done.stdout.split() == [
        "read=EngineError", "generate=EngineError", "tokenize=EngineError", f"flush={flush}",
        f"load={again}", f"new={again}", "close=fine",
    ], done.stderr  # fmt: skip
