"""A signal handler runs in the middle of whatever its thread does. It is answered or refused, and never waits for itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llama_bridge import InvalidInput
from llama_bridge.files.folder import SessionFolder
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
