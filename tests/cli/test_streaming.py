"""An answer in a thread of its own: whatever goes wrong, it ends, and the conversation is whole."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import cast

import pytest

from llama_bridge import EngineError, LlamaBridge, TextStream
from llama_bridge.chat.stream import ChatStream, ReasoningDelta, TextDelta
from llama_bridge.cli.streaming import TextsAndThoughts, stream_answer
from llama_bridge.cli.terminal import Terminal
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.ledger import engine_of, machine

LONG = FakeAnswer("abcdefghij" * 500, token_seconds=0.01)


class Screen(Terminal):
    """Keeps what is written, and does something at each piece."""

    def __init__(self, each: object = None) -> None:
        super().__init__()
        self.text = ""
        self._each = each

    def write(self, text: str) -> None:
        self.text += text
        if callable(self._each):
            self._each()


def in_step(llama: LlamaBridge) -> bool:
    """The ledger, and what is owed to it, hold the conversation to its last letter."""
    session = llama.session()
    said = session.messages[-1]["content"]
    kv = machine(llama).kv
    held = llama.detokenize(kv.conversation)
    return held.endswith(said) and len(kv.tokens) == kv.engine.length


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
def test_ctrl_c_cancels_and_every_word_shown_is_in_the_conversation() -> None:
    with FakeLlama(LONG) as llama:
        pressed: list[None] = []

        def press() -> None:
            if not pressed:
                pressed.append(None)
                signal.raise_signal(signal.SIGINT)

        clear = engine_of(llama).clear_cancel

        def clear_too_early() -> None:  # Ctrl-C is pressed again while the answer is being wound up
            clear()
            if pressed:
                llama.cancel()

        engine_of(llama).clear_cancel = clear_too_early  # type: ignore[method-assign]
        screen = Screen(press)
        before = signal.getsignal(signal.SIGINT)
        answer = stream_answer(llama, screen, lambda: llama.generate_stream("hello"))
        assert signal.getsignal(signal.SIGINT) is before
        assert answer.finish_reason == "cancelled"
        assert 0 < len(answer.text) < 5000
        assert screen.text == answer.text
        assert in_step(llama)


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
def test_ctrl_c_before_the_work_has_begun_is_not_lost() -> None:
    with FakeLlama(LONG) as llama:

        def start() -> TextStream:
            signal.raise_signal(signal.SIGINT)
            while not engine_of(llama).cancelled:
                time.sleep(0.001)
            return llama.generate_stream("hello")

        assert stream_answer(llama, Screen(), start).finish_reason == "cancelled"


def test_output_that_breaks_ends_the_work_and_leaves_the_bridge_usable() -> None:
    def broken() -> None:
        raise BrokenPipeError

    with FakeLlama([LONG, "fine"]) as llama:
        with pytest.raises(BrokenPipeError):
            stream_answer(llama, Screen(broken), lambda: llama.generate_stream("hello"))
        assert not [t for t in threading.enumerate() if t.name == "llama-bridge-answer"]
        assert llama.generate("again").text == "fine"


def test_an_error_in_the_work_is_raised_here() -> None:
    with FakeLlama(FakeAnswer("abc", fails_after=1)) as llama:
        screen = Screen()
        with pytest.raises(EngineError, match="as it was told"):
            stream_answer(llama, screen, lambda: llama.generate_stream("hello"))
        assert screen.text == "a"


def test_it_works_in_a_thread_that_hears_no_signals() -> None:
    with FakeLlama("fine") as llama:
        texts: list[str] = []
        worker = threading.Thread(
            target=lambda: texts.append(
                stream_answer(llama, Screen(), lambda: llama.generate_stream("hello")).text
            )
        )
        worker.start()
        worker.join()
        assert texts == ["fine"]


def test_what_a_model_thinks_is_a_paragraph_of_its_own() -> None:
    events = [ReasoningDelta("Hm, "), ReasoningDelta("yes."), TextDelta("Y"), TextDelta("es.")]
    stream = cast("ChatStream", iter(events))
    assert "".join(TextsAndThoughts(stream)) == "Hm, yes.\n\nYes."
