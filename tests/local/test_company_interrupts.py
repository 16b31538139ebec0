"""A Ctrl-C while one answer is computed in the company of others, tried on each line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from llama_bridge import BridgeError, LlamaBridge, SamplingParams
from llama_bridge.local.local_runtime import LocalRuntime
from tests.attack.interrupts import interrupted

FEW = SamplingParams(temperature=0, max_tokens=6)
SOME = SamplingParams(temperature=0, max_tokens=14)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def three() -> Iterator[LlamaBridge]:
    with LlamaBridge("demo", backend="native", n_parallel=3, n_ctx=1024) as llama:
        yield llama


def ask(llama: LlamaBridge) -> None:
    llama.generate("Who are you?", sampling=FEW)


def ask_a_conversation(llama: LlamaBridge) -> None:
    llama.session("a").generate_continue("And now?", sampling=FEW)


def close_a_stream(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("Count from one to ten.", sampling=FEW)
    next(stream)
    stream.close()


def fork_and_ask(llama: LlamaBridge) -> None:
    llama.session("a").fork("b").generate_continue("And?", sampling=FEW)
    llama.session("b").delete()


@pytest.mark.parametrize("work", [ask, ask_a_conversation, close_a_stream, fork_and_ask])
def test_an_interrupt_on_any_line_leaves_the_others_whole(
    three: LlamaBridge, work: Callable[[LlamaBridge], None]
) -> None:
    expected = three.generate("Tell me a story about a cat.", sampling=SOME).text
    hits, at, goes_on = 0, 0, True
    while goes_on:
        at += 5
        three.session("b").delete()
        three.session("a").generate("Hello! My name is Zorvane.", sampling=FEW)
        other = three.generate_stream("Tell me a story about a cat.", sampling=SOME)
        begin = next(other)
        goes_on = interrupted(lambda: work(three), at, "line")
        answer = other.result
        if answer.finish_reason == "cancelled":  # while its own text was being noted
            hits += 1
            assert expected.startswith(answer.text), f"at line {at}"
        else:
            assert answer.text == expected, f"at line {at}"
        assert answer.text.startswith(begin)
        assert_whole(three, f"at line {at}")
        assert "Zorvane" in three.session("a").messages[0]["content"]
    assert at > 100
    assert hits < at / 12


def assert_whole(llama: LlamaBridge, where: str) -> None:
    done: list[str] = []

    def talk() -> None:
        try:
            done.append(llama.generate("Hello!", sampling=FEW).text)
        except BridgeError as error:
            done.append(f"!{error}")

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    thread.join(10)
    assert done, f"somebody still has the engine, {where}"
    assert done[0].startswith("Hello"), where
    runtime = llama._shared.alive()
    assert isinstance(runtime, LocalRuntime)
    assert not runtime._pool.turns(), where
    for seat in runtime._pool.seats:
        kv = seat.active.kv
        kv.check()
        assert kv.sequence.length == len(kv.tokens), where
