"""Streams that somebody left half read: they hold nothing, and nothing of them is lost."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from llama_bridge import (
    Capability,
    ClosedError,
    EngineError,
    InvalidInput,
    LlamaBridge,
    Progress,
    SamplingParams,
    TextStream,
)
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.ledger import GREEDY, assert_ledger_rule, machine

T = TypeVar("T")
LONG = " ".join(f"word{i}" for i in range(300))
QUESTION = "What is a KV cache?"


def soon(work: Callable[[], T], seconds: float = 20) -> T:
    """What another thread gets within some time."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for a reader"
    if failed:
        raise failed[0]
    return done[0]


def promptly(llama: LlamaBridge, prompt: str) -> str:
    llama.session_reset()
    text = llama.generate(prompt, sampling=GREEDY).text
    llama.session_reset()
    return text


def test_another_thread_goes_on_and_the_reader_finds_the_rest(llama: LlamaBridge) -> None:
    expected, other = promptly(llama, "Hello!"), promptly(llama, QUESTION)
    stream = llama.generate_stream("Hello!", sampling=GREEDY)
    said = next(stream)
    assert soon(lambda: llama.generate(QUESTION, sampling=GREEDY)).text == other
    assert said + "".join(stream) == stream.result.text == expected
    assert_ledger_rule(llama)


def test_one_thread_may_leave_a_stream_and_come_back_to_it(llama: LlamaBridge) -> None:
    expected = promptly(llama, "Hello!")
    left = [llama.generate_stream("Hello!", sampling=GREEDY) for _ in range(3)]
    said = [next(stream) for stream in left]
    llama.session_reset()
    assert llama.session().messages == []
    for stream, first in zip(left, said, strict=True):
        assert first + "".join(stream) == stream.result.text == expected


@pytest.mark.skipif(sys.platform == "emscripten", reason="needs threads")
def test_a_task_that_never_reads_on_blocks_no_other_task(llama: LlamaBridge) -> None:
    expected = promptly(llama, QUESTION)

    async def walk_away() -> TextStream:
        stream = llama.generate_stream("Hello!", sampling=GREEDY)
        next(stream)
        return stream

    async def serve() -> str:
        client = await walk_away()
        answer = await asyncio.to_thread(llama.generate, QUESTION, sampling=GREEDY)
        client.close()
        return answer.text

    assert asyncio.run(asyncio.wait_for(serve(), 20)) == expected


@pytest.mark.requires_capability("kv_continuation")
def test_the_next_turn_follows_the_whole_answer_that_was_left(llama: LlamaBridge) -> None:
    expected = promptly(llama, "Hello! My name is Zorblax.")
    stream = llama.generate_stream("Hello! My name is Zorblax.", sampling=GREEDY)
    next(stream)
    answer = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert "Zorblax" in answer.text
    assert llama.session().messages[1]["content"] == expected
    assert stream.result.text == expected
    assert_ledger_rule(llama)


@pytest.mark.requires_capability("session_tools", "session_persistence")
def test_every_call_that_wants_the_engine_finishes_what_was_left(
    llama: LlamaBridge, tmp_path: object
) -> None:
    expected = promptly(llama, "Hello!")
    path = f"{tmp_path}/a.session"
    calls: list[Callable[[], object]] = [
        lambda: llama.session_save(path),
        lambda: llama.session_verify(path),
        lambda: llama.session_load(path),
        lambda: llama.session_fork("branch"),
        lambda: llama.session("branch").delete(),
        lambda: llama.session_rewind(),
        lambda: llama.regenerate(sampling=GREEDY),
        lambda: llama.session("other").generate("x", sampling=GREEDY),
        lambda: llama.session_reset(),
    ]
    for call in calls:
        stream = llama.generate_stream("Hello!", sampling=GREEDY)
        said = next(stream)
        soon(lambda call=call: call())  # type: ignore[misc]
        assert said + "".join(stream) == stream.result.text == expected
        llama.generate("Hello!", sampling=GREEDY)


def test_a_model_that_is_replaced_says_its_last_answer_whole() -> None:
    for unload_first in (False, True):
        with LlamaBridge("demo", sampling=GREEDY) as llama:
            expected = promptly(llama, "Hello!")
            stream = llama.generate_stream("Hello!")
            said = next(stream)
            soon(lambda llama=llama: llama.load_model("demo", unload_first=unload_first))  # type: ignore[misc]  # noqa: B023
            assert said + "".join(stream) == stream.result.text == expected
            assert llama.generate("Hello!").text == expected


def test_the_reader_sees_the_text_while_another_call_computes_it() -> None:
    with FakeLlama([FakeAnswer("abcdefgh", token_seconds=0.05), "other"]) as llama:
        stream = llama.generate_stream("go")
        said = next(stream)
        other = threading.Thread(target=llama.generate, args=("next",))
        other.start()
        time.sleep(0.02)
        begun = time.perf_counter()
        said += next(stream)
        assert time.perf_counter() - begun < 0.2, "it came with the rest"
        said += "".join(stream)
        other.join(10)
        assert said == stream.result.text == "abcdefgh"


# ended


def test_cancel_ends_what_was_left(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("Hello!", sampling=GREEDY)
    said = next(stream)
    llama.cancel()
    assert llama.generate(QUESTION, sampling=GREEDY).finish_reason != "cancelled"
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text.startswith(said)
    assert_ledger_rule(llama)


def test_dropped_it_ends_where_it_stands() -> None:
    with FakeLlama([LONG, "next"]) as llama:
        stream = llama.generate_stream("go")
        said = next(stream) + next(stream)
        del stream
        gc.collect()
        assert llama.session().messages[-1]["content"] == said
        assert llama.generate_continue("and?").text == "next"
        assert said + "<" in llama.asked[-1].context, "more was computed than anybody wanted"
        assert len(machine(llama).kv.tokens) == machine(llama).engine.length


def test_dropped_before_it_was_read_it_was_never_asked() -> None:
    with FakeLlama([LONG, "next"]) as llama:
        llama.generate_stream("go")
        assert llama.session().messages == []
        assert llama.asked == []
        assert llama.generate("again").text == LONG


def test_dropped_while_another_call_computes_it_ends_soon() -> None:
    with FakeLlama([FakeAnswer(LONG, token_seconds=0.02), "next"]) as llama:
        stream = llama.generate_stream("go")
        next(stream)
        answers: list[str] = []
        other = threading.Thread(target=lambda: answers.append(llama.generate("more").text))
        other.start()
        time.sleep(0.1)
        del stream
        other.join(5)
        assert answers == ["next"]


def test_closing_one_stream_does_not_end_the_answer_after_it() -> None:
    with FakeLlama(lambda asked: f"[{asked.prompt}]" * 20) as llama:
        for round_ in range(200):
            stream = llama.generate_stream(f"left {round_}")
            next(stream)
            closer = threading.Thread(target=stream.close)
            closer.start()
            answer = llama.generate(f"asked {round_}")
            closer.join(10)
            assert answer.finish_reason == "stop"
            assert answer.text == f"[asked {round_}]" * 20


# what waits for nobody


def test_words_and_properties_come_in_the_middle_of_a_prefill() -> None:
    with FakeLlama("fine", prefill_token_seconds=0.02) as llama:
        llama.generate("hi")
        work = threading.Thread(target=llama.generate, args=("a long prompt " * 20,))
        work.start()
        time.sleep(0.1)
        begun = time.perf_counter()
        assert llama.detokenize(llama.tokenize("words")) == "words"
        assert "words" in str(llama.apply_chat_template([{"role": "user", "content": "words"}]))
        assert llama.info.n_ctx
        assert Capability.TOKENS in llama.capabilities
        assert llama.model.name
        assert llama.session().n_turns >= 0
        assert llama.sessions() == []
        seconds = time.perf_counter() - begun
        assert work.is_alive(), "the prefill was too short to tell"
        assert seconds < 0.5
        llama.cancel()
        work.join(10)


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_words_from_many_threads_while_a_model_computes(backend: str) -> None:
    with LlamaBridge("demo", backend=backend, sampling=GREEDY) as llama:
        text = "My name is Ada. Grüße, 世界! " * 20
        expected = llama.tokenize(text)
        answer = llama.generate(QUESTION).text
        stop = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            while not stop.is_set():
                if llama.tokenize(text) != expected or llama.detokenize(expected) != text:
                    wrong.append("tokens")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(15):
                llama.session_reset()
                if llama.generate(QUESTION).text != answer:
                    wrong.append("answer")
        finally:
            stop.set()
            for reader in readers:
                reader.join(10)
        assert wrong == []


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_a_bridge_may_be_closed_in_the_middle_of_its_words(backend: str) -> None:
    for _ in range(5):
        llama = LlamaBridge("demo", backend=backend)
        ended: list[bool] = []

        def read(llama: LlamaBridge = llama, ended: list[bool] = ended) -> None:
            try:
                while True:
                    llama.tokenize("some words " * 200)
            except ClosedError:
                ended.append(True)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        time.sleep(0.02)
        llama.close()
        for reader in readers:
            reader.join(10)
        assert ended == [True] * 3


# what goes wrong


def test_an_answer_that_fails_unread_fails_for_its_reader_alone() -> None:
    with FakeLlama([FakeAnswer("abcdef", fails_after=3), "fine"]) as llama:
        stream = llama.generate_stream("go")
        said = next(stream)
        assert llama.generate("next").text == "fine"
        said += next(stream) + next(stream)
        with pytest.raises(EngineError, match="told to"):
            next(stream)
        assert said == "abc"
        assert list(stream) == []
        with pytest.raises(EngineError, match="no result"):
            _ = stream.result


def test_an_interrupt_of_who_computes_it_leaves_the_reader_what_was_said() -> None:
    pressed: Any = KeyboardInterrupt()
    with FakeLlama([FakeAnswer("abcdef", fails_after=3, error=pressed), "fine"]) as llama:
        llama.system = "s"
        stream = llama.generate_stream("go")
        assert next(stream) == "a"
        with pytest.raises(KeyboardInterrupt):
            llama.generate("next")
        assert next(stream) + next(stream) == "bc"
        assert list(stream) == []
        assert (stream.result.text, stream.result.finish_reason) == ("abc", "cancelled")
        assert llama.session().messages[-1]["content"] == "abc"
        assert llama.generate_continue("again").text == "fine"
        assert len(machine(llama).kv.tokens) == machine(llama).engine.length


def test_progress_may_ask_what_waits_for_nobody_and_nothing_else() -> None:
    with FakeLlama("fine") as llama:
        heard: list[Progress] = []

        def listen(step: Progress) -> None:
            heard.append(step)
            assert llama.detokenize(llama.tokenize("abc")) == "abc"
            assert llama.session().messages == []
            for wrong in (llama.session_reset, lambda: llama.generate("x"), lambda: next(left)):
                with pytest.raises(InvalidInput, match="inside on_progress"):
                    wrong()

        left = llama.generate_stream("unread")
        left.close()
        llama.session_reset()
        left = llama.generate_stream("hello " * 30, on_progress=listen)
        assert left.result.text == "fine"
        assert [step.done for step in heard] == sorted(step.done for step in heard)
        assert heard[-1].done == heard[-1].total > 100
        assert {(step.stage, step.unit) for step in heard} == {("prefill", "tokens")}


def test_progress_may_cancel_and_close() -> None:
    with FakeLlama("fine") as llama:
        answer = llama.generate("hello " * 30, on_progress=lambda _: llama.cancel())
        assert answer.finish_reason == "cancelled"
        assert llama.generate("hello").text == "fine"
        assert (
            llama.generate("x" * 99, on_progress=lambda _: llama.close()).finish_reason
            == "cancelled"
        )


def test_what_progress_raises_ends_the_call_and_nothing_is_lost() -> None:
    def refuse(_: Progress) -> None:
        raise LookupError("no more")

    with FakeLlama("fine") as llama:
        llama.generate("hello")
        before = llama.session().messages
        with pytest.raises(LookupError, match="no more"):
            llama.generate_continue("x" * 99, on_progress=refuse)
        assert llama.session().messages == before
        assert len(machine(llama).kv.tokens) == machine(llama).engine.length
        assert llama.generate_continue("x").text == "fine"
        assert_ledger_rule(llama)


def test_a_hundred_threads_each_get_their_own_answer() -> None:
    with FakeLlama(
        lambda asked: f"<{asked.prompt}>", sampling=SamplingParams(max_tokens=None)
    ) as llama:
        found: list[bool] = []

        def talk(number: int) -> None:
            stream = llama.generate_stream(f"{number}")
            first = next(stream)
            if number % 3 == 0:
                time.sleep(0.001)
            if number % 7 == 0:
                del stream
            else:
                found.append(first + "".join(stream) == f"<{number}>")

        threads = [threading.Thread(target=talk, args=(i,)) for i in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(found) == 100 - 15
        assert all(found)
        assert llama.generate("end").text == "<end>"
        assert_ledger_rule(llama)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_ends_its_copy_of_a_stream_and_waits_for_nobody() -> None:
    with FakeLlama(LONG) as llama:
        stream, runtime = llama.generate_stream("x"), llama._shared.runtime
        next(stream)
        assert isinstance(runtime, LocalRuntime)
        held, forked = threading.Event(), threading.Event()

        def hold() -> None:
            with (
                runtime._scheduler._gate
            ):  # held for a moment by whoever ends an answer or has computed a text
                held.set()
                forked.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(20)
        child = multiprocessing.get_context("fork").Process(target=stream._answer.end)
        child.start()
        forked.set()
        holder.join(20)
        child.join(10)
        assert child.exitcode == 0
        child.kill()
        assert stream.result.text == LONG


def test_a_stream_can_be_polled_piece_by_piece() -> None:
    with FakeLlama("ab") as llama:
        stream = llama.generate_stream("x" * 200, chat=False)
        found = [stream.poll() for _ in range(12)]
        pieces = found.index("a")
        assert found == [*[""] * pieces, "a", "b", *[None] * (10 - pieces)]
        # The first token is drawn with the last piece.
        assert pieces == -(-stream.result.usage.evaluated_tokens // llama.info.n_batch) - 1


def test_others_take_their_turn_between_two_pieces_of_a_prefill() -> None:
    with FakeLlama(["first", "second"], prefill_token_seconds=0.001) as llama:
        stream = llama.generate_stream("x" * 300, chat=False)
        assert stream.poll() == ""
        assert soon(lambda: llama.session("b").generate("and?").text) == "second"
        assert list(stream) == list("first")
