"""The vocabulary from any thread: while another computes, while another closes, and never two calls at once."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge.errors import ClosedError, EngineError, InvalidInput
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.wasm_engine import WasmEngine

from .conftest import random_model
from .test_engine import GREEDY

TEXT = "Hello, my name is Wilda, and I live in Quellan. " * 3


def words(engine: WasmEngine, text: str = TEXT) -> list[int]:
    return engine.tokenize(text, add_special=True, parse_special=True)


def is_held(lock: threading.RLock) -> bool:
    """Whether another thread has it."""
    free = lock.acquire(blocking=False)
    if free:
        lock.release()
    return not free


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


class Crowd:
    """Threads that do something over and over until the end of the block; what they raise is raised there.

    Attributes:
        seconds: how long each time took.
    """

    def __init__(self, *works: Callable[[], object], pause: float = 0.0) -> None:
        self.seconds: list[float] = []
        self._pause = pause
        self._stop = False
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=[work]) for work in works]

    def _run(self, work: Callable[[], object]) -> None:
        try:
            while not self._stop:
                clock = time.perf_counter()
                work()
                self.seconds.append(time.perf_counter() - clock)
                time.sleep(self._pause)
        except BaseException as error:
            self._errors.append(error)

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        for error in self._errors:
            raise error


@pytest.fixture(scope="module", params=[1, 2])
def slow(wasm: Path, request: pytest.FixtureRequest) -> Iterator[WasmEngine]:
    """A model whose prefill of 1,500 tokens takes a second or more; with one thread, and with two."""
    path = random_model(n_layer=8, n_embd=512, n_ff=2048, quantization="q8_0")
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=2048, n_threads=request.param))
    yield engine
    engine.close()


@pytest.fixture
def one_at_a_time(slow: WasmEngine, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Fails whoever calls into the guest while another is in it; counts the calls."""
    call = slow.guest.call
    inside: list[str] = []
    counts: Counter[str] = Counter()

    def watched(name: str, *args: int) -> int:
        assert not inside, f"{name} while {inside[0]} runs"
        inside.append(name)
        counts[name] += 1
        try:
            return call(name, *args)
        finally:
            inside.pop()

    monkeypatch.setattr(slow.guest, "call", watched)
    return counts


def answer(engine: WasmEngine, prompt: list[int], n: int = 20) -> tuple[list[int], bytes]:
    engine.clear_cancel()
    engine.clear()
    assert engine.decode(prompt) == len(prompt)
    engine.set_sampler(SamplingParams(temperature=1.0), 7, prompt[-64:])
    drawn = [engine.sample()]
    while len(drawn) < n:
        token = engine.step(drawn[-1])
        assert token is not None
        drawn.append(token)
    return drawn, bytes(engine.logits())


@pytest.mark.usefixtures("one_at_a_time")
def test_threads_that_hammer_the_vocabulary_change_no_answer(slow: WasmEngine) -> None:
    prompt = [10 + i % 500 for i in range(300)]
    expected, tokens = answer(slow, prompt), words(slow)
    pieces = b"".join(slow.token_bytes(token) for token in tokens)
    long = "x y " * 20_000  # its buffer grows
    many = words(slow, long)

    def check_tokens() -> None:
        assert words(slow) == tokens

    def check_long() -> None:
        assert words(slow, long) == many

    def check_bytes() -> None:
        assert b"".join(slow.token_bytes(token) for token in tokens) == pieces
        assert slow.token_bytes(tokens[0], special=True)

    def check_errors() -> None:
        with pytest.raises(InvalidInput, match="1000000: no such token"):
            slow.token_bytes(1_000_000)

    with Crowd(check_tokens, check_tokens, check_bytes, check_errors) as crowd:
        for _ in range(2):
            assert answer(slow, prompt) == expected
    assert len(crowd.seconds) > 100
    with Crowd(check_long, check_errors):
        assert answer(slow, prompt) == expected


def test_who_tokenises_waits_for_one_call_and_not_for_the_prompt(
    slow: WasmEngine, one_at_a_time: Counter[str]
) -> None:
    prompt = [10 + i % 500 for i in range(1500)]
    calls = -(-len(prompt) // slow.info.n_batch)
    assert calls > 10
    passed: list[int] = []

    def look() -> None:
        before = one_at_a_time["lb_decode"]
        words(slow)
        passed.append(one_at_a_time["lb_decode"] - before)

    slow.clear()
    with Crowd(look, pause=0.01) as crowd:
        wait_for(lambda: bool(crowd.seconds))
        assert slow.decode(prompt) == len(prompt)
    assert one_at_a_time["lb_decode"] == calls
    assert len(passed) > calls / 2, "while the prompt was evaluated"
    assert max(passed) <= 2, (
        "one piece that began; more only if this machine had other things to do"
    )


@pytest.mark.usefixtures("one_at_a_time")
def test_an_answer_goes_on_while_others_tokenise_without_a_break(slow: WasmEngine) -> None:
    slow.clear()
    slow.decode([5, 6, 7])
    slow.set_sampler(GREEDY, 1, [])
    token = slow.sample()
    with Crowd(*[lambda: words(slow)] * 3) as crowd:
        wait_for(lambda: len(crowd.seconds) > 10)
        clock = time.perf_counter()
        for _ in range(50):
            following = slow.step(token)
            assert following is not None
            token = following
        assert time.perf_counter() - clock < 20
    assert len(crowd.seconds) > 50


def test_a_cancel_and_a_look_at_the_model_wait_for_nobody(slow: WasmEngine) -> None:
    piece = slow.token_bytes(300)
    with slow.calls.turnstile, slow.calls.lock:  # as if another computed
        slow.cancel()
        assert slow.cancelled
        assert slow.info.n_ctx == 2048
        assert slow.token_bytes(300) == piece, "known by now"
        slow.clear_cancel()


@pytest.fixture
def armed() -> Iterator[set[str]]:
    """Something in it has the next Ctrl-C raise KeyboardInterrupt, once; Ctrl-C is pressed all the time."""
    armed: set[str] = set()
    over = threading.Event()

    def handle(*_: object) -> None:
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def press() -> None:
        while not over.wait(0.0003):
            _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, handle)
    thread = threading.Thread(target=press)
    thread.start()
    yield armed
    over.set()
    thread.join()
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_loses_no_lock_and_no_token(
    wasm: Path, demo: ModelFile, armed: set[str]
) -> None:
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=1))
    expected = words(engine)

    def use() -> None:
        while True:
            assert words(engine) == expected
            engine.token_bytes(expected[1], special=True)
            engine.clear()
            engine.decode(expected[:3])

    hits, end = 0, time.monotonic() + 1
    while time.monotonic() < end:
        try:
            armed.add("now")
            use()
        except KeyboardInterrupt:
            hits += 1
        for lock in (engine.calls.turnstile, engine.calls.lock):
            assert not lock._is_owned()  # type: ignore[attr-defined]
    assert hits > 50
    assert words(engine) == expected
    engine.close()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_closing_while_others_tokenise_ends_them_with_an_error_of_ours(
    wasm: Path, demo: ModelFile, n_threads: int
) -> None:
    for i in range(10):
        engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=n_threads))
        expected = words(engine)
        ends: list[BaseException] = []

        def use(engine: WasmEngine = engine, ends: list[Any] = ends, want: Any = expected) -> None:
            try:
                while True:
                    assert words(engine) == want
                    assert engine.token_bytes(want[1], special=True)
            except BaseException as error:
                ends.append(error)

        users = [threading.Thread(target=use) for _ in range(3)]
        for user in users:
            user.start()
        time.sleep(0.002 * i)
        engine.close()
        for user in users:
            user.join(10)
        assert [type(end) for end in ends] == [ClosedError] * 3


def test_closing_while_another_computes_ends_that_with_an_error_of_ours(
    wasm: Path, demo: ModelFile
) -> None:
    for i in range(5):
        engine = BACKEND.load(demo, ModelParams(n_ctx=4096, n_threads=2))
        ends: list[BaseException] = []

        def compute(engine: WasmEngine = engine, ends: list[BaseException] = ends) -> None:
            try:
                while engine.decode([7] * 2000):
                    engine.clear()
            except BaseException as error:
                ends.append(error)

        thread = threading.Thread(target=compute)
        thread.start()
        time.sleep(0.01 * i)
        engine.close()
        thread.join(30)
        assert [type(end) for end in ends] == [ClosedError]


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "emscripten", reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_middle_of_a_call_is_told_so_and_does_not_wait_for_ever(
    slow: WasmEngine,
) -> None:
    slow.clear_cancel()
    slow.clear()

    def compute() -> None:
        with contextlib.suppress(EngineError):
            slow.decode([10 + i % 500 for i in range(2000)])

    thread = threading.Thread(target=compute)
    thread.start()
    wait_for(lambda: is_held(slow.calls.lock))
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (lambda: words(slow), lambda: slow.token_bytes(3), lambda: slow.length):
            try:
                use()
            except EngineError:
                refused += 1
            except BaseException:
                os._exit(9)
        os._exit(refused)
    deadline = time.monotonic() + 20
    found, status = os.waitpid(child, os.WNOHANG)
    while not found and time.monotonic() < deadline:
        time.sleep(0.01)
        found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        os.kill(child, 9)
        os.waitpid(child, 0)
    slow.cancel()
    thread.join()
    slow.clear_cancel()
    assert found, "the child waits for a lock that nobody there will give back"
    assert os.waitstatus_to_exitcode(status) == 3
