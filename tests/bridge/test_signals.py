"""A signal handler runs in the middle of whatever its thread does. It is answered or refused, and never waits for itself."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llama_bridge import InvalidInput, later_signals
from llama_bridge.files.folder import SessionFolder
from llama_bridge.later_signals import LaterSignals, handle_signals, signals_at_once
from llama_bridge.testing import FakeLlama

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")

PROGRAM = """
import signal, sys, time
from llama_bridge import InvalidInput, LlamaBridge

llama = LlamaBridge("demo", backend=sys.argv[1], n_threads=1)
text = "Hello there, my friend. " * 15_000
clock = time.monotonic()
whole = llama.tokenize(text)
seconds = time.monotonic() - clock


def interrupted_by(call):
    def handle(*_):
        try:
            came.append(call())
        except InvalidInput as error:
            assert "signal handler" in str(error)
            came.append(error)

    came = []
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds / 2)
    assert llama.tokenize(text) == whole
    while not came:
        time.sleep(0.01)
    return came[0]


short = llama.tokenize("abc")
for call, right in ((lambda: llama.tokenize("abc"), short), (lambda: llama.detokenize(short), "abc")):
    found = interrupted_by(call)
    assert isinstance(found, InvalidInput) or found == right, found
interrupted_by(llama.close)
llama.close()
"""


@pytest.mark.slow
@pytest.mark.requires_capability("tokens")
@pytest.mark.not_remote("no C code calls Python functions there")
def test_a_handler_in_the_middle_of_a_long_text_is_answered_or_refused(llama_backend: str) -> None:
    run = [sys.executable, "-c", PROGRAM, llama_backend]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_handler_in_the_middle_of_an_answer_is_told_to_wait() -> None:
    refused: list[str] = []

    def handle(*_: object) -> None:
        with pytest.raises(InvalidInput, match="signal handler") as caught:
            llama.generate("x")
        refused.append(str(caught.value))

    with FakeLlama("Hello!") as llama:
        before = signal.signal(signal.SIGUSR1, handle)
        try:
            llama.generate("x", on_progress=lambda _: signal.raise_signal(signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert refused
        assert llama.generate("x").text == "Hello!"


def test_a_handler_may_list_the_sessions_of_a_folder_that_its_thread_is_changing(
    tmp_path: Path,
) -> None:
    folder = SessionFolder.open(tmp_path, 1 << 20)
    listed: list[list[str]] = []

    def work() -> None:
        with folder._mutex:  # as it is held while a session is queued
            listed.append(folder.names())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert listed == [[]]
    folder.close()


RAISED = """
import random, signal, sys
from llama_bridge import LlamaBridge

class Rung(BaseException):
    pass

def ring(*_):
    if armed:
        raise Rung

def interrupted(work):
    global armed
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.02), 0.5)
        while True:
            work()
    except Rung:
        pass
    finally:
        armed = False

armed = False
backend, what = sys.argv[1:]
llama = LlamaBridge("demo", backend=backend, n_threads=1)
shape = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 30, "maxItems": 30}
works = {
    "load": lambda: LlamaBridge("demo", backend=backend).close(),
    "schema": lambda: llama.generate("Hi", json_schema=shape, max_tokens=200, temperature=1.5),
    "logprobs": lambda: llama.generate("Hi", logprobs=5),
}
works[what]()  # what Python raises in an import becomes another error
signal.signal(signal.SIGALRM, ring)
for _ in range(40 if what == "load" else 150):
    interrupted(works[what])
signal.setitimer(signal.ITIMER_REAL, 0)
assert signal.getsignal(signal.SIGALRM) is ring
print(llama.generate("Hello!"))
"""


@pytest.mark.slow
@pytest.mark.requires_capability("tokens")
@pytest.mark.not_remote("no C code calls Python functions there")
@pytest.mark.parametrize("what", ["load", "schema", "logprobs"])
def test_what_a_handler_raises_in_a_function_that_c_called_is_neither_lost_nor_the_end(
    llama_backend: str, what: str
) -> None:
    run = [sys.executable, "-c", RAISED, llama_backend, what]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "Hello!" in done.stdout
    assert "ctypes callback" not in done.stderr


def test_signals_wait_in_a_block_and_are_handled_where_that_is_safe() -> None:
    came: list[str] = []

    def handle(*_: object) -> None:
        came.append("now")

    def ring() -> int:
        signal.raise_signal(signal.SIGUSR1)
        return len(came)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with LaterSignals():
            assert ring() == 0
            with LaterSignals():
                assert ring() == 0
            assert came == []
            handle_signals()
            assert len(came) == 2
            with signals_at_once():
                assert ring() == 3
            assert ring() == 3
        assert len(came) == 4
        assert ring() == 5
        assert signal.getsignal(signal.SIGUSR1) is handle
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_whenever_an_alarm_rings_nothing_stays_held_back() -> None:
    class Rung(BaseException):
        pass

    def ring(*_: object) -> None:
        raise Rung

    befores = [signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGUSR1)]
    before = signal.getsignal(signal.SIGINT)
    rings = 0
    gc.collect()
    gc.disable()  # an alarm in the end of something that another test left is no error, but a warning
    try:
        for i in range(3000):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + i % 100 * 1e-6)
                    with LaterSignals(), signals_at_once(), LaterSignals():
                        signal.raise_signal(signal.SIGUSR1)
                except Rung:
                    rings += 1
                time.sleep(3e-4)  # for the other one
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Rung:
                pass
            assert later_signals._holder is None, f"at try {i}"
            for number in (signal.SIGALRM, signal.SIGUSR1):
                with pytest.raises(Rung):
                    signal.raise_signal(number)
    finally:
        for number, handler in zip((signal.SIGALRM, signal.SIGUSR1), befores, strict=True):
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, before)
        gc.enable()
    assert rings > 1000


def test_a_handler_that_raises_leaves_no_other_one_away() -> None:
    def handle(*_: object) -> None:
        raise OSError

    befores = [signal.signal(number, handle) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    try:
        with pytest.raises(OSError), LaterSignals():  # noqa: PT011, PT012
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)
        assert signal.getsignal(signal.SIGUSR1) is handle
        assert signal.getsignal(signal.SIGUSR2) is handle
        with LaterSignals():
            pass
    finally:
        for number, before in zip((signal.SIGUSR1, signal.SIGUSR2), befores, strict=True):
            signal.signal(number, before)
