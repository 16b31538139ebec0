"""Streams in tasks: read, left, shared, one beside the other, failing."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
import time
from typing import Any

import anyio
import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    AsyncStream,
    EngineError,
    Generation,
    InvalidInput,
    NoModel,
    Progress,
)
from llama_bridge.aio.threads import AHEAD
from llama_bridge.testing import Answer, FakeAnswer, FakeLlama

from .conftest import Loop

LONG = "0123456789" * 30


def test_a_stream_is_read_in_any_way(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(LONG) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            assert "".join([text async for text in bridge.generate_stream("a")]) == LONG
            assert str(await bridge.generate_stream("b").result()) == LONG
            assert str(await bridge.generate_stream("c")) == LONG
            async with bridge.generate_stream("d") as stream:
                assert llama.asked[-1].prompt == "c"  # planned, and nothing evaluated
                read = [await anext(stream), await anext(stream)]
                assert (await stream.result()).text == LONG
            assert read == ["0", "1"]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert (await stream.result()).text == LONG
            assert (await stream).finish_reason == "stop"

    loop(work)


def test_the_event_loop_goes_on_meanwhile(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(FakeAnswer(LONG[:100], token_seconds=0.005)) as llama:
            beats = 0

            async def heart() -> None:
                nonlocal beats
                while True:
                    await anyio.sleep(0.01)
                    beats += 1

            async with anyio.create_task_group() as group:
                group.start_soon(heart)
                await AsyncLlamaBridge.of(llama).generate("hi")
                group.cancel_scope.cancel()
            assert beats > 10

    loop(work)


def test_the_event_loop_goes_on_in_a_long_prefill(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(prefill_token_seconds=0.001) as llama:
            beats = 0

            async def heart() -> None:
                nonlocal beats
                while True:
                    await anyio.sleep(0)
                    beats += 1

            async with anyio.create_task_group() as group:
                group.start_soon(heart)
                answer = await AsyncLlamaBridge.of(llama).generate("x" * 600)
                group.cancel_scope.cancel()
            assert answer.usage.evaluated_tokens > 600
            assert beats > 15  # pieces of 32 tokens

    loop(work)


def test_texts_that_are_ready_do_not_keep_the_loop_from_others(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(LONG * 10) as llama:
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    await anyio.sleep(0)
                    turns += 1

            async with anyio.create_task_group() as group:
                group.start_soon(other)
                async for _ in AsyncLlamaBridge.of(llama).generate_stream("hi"):
                    pass
                group.cancel_scope.cancel()
            assert turns > 3

    loop(work)


def test_a_reader_gets_each_text_when_it_is_computed(threads: Loop) -> None:
    async def work() -> None:
        with FakeLlama(FakeAnswer("0123456789", token_seconds=0.05)) as llama:
            begun, at = time.perf_counter(), []
            async for _ in AsyncLlamaBridge.of(llama).generate_stream("hi"):
                at.append(time.perf_counter() - begun)
            waits = [later - earlier for earlier, later in itertools.pairwise(at)]
            assert sum(wait > 0.02 for wait in waits) >= 7

    threads(work)


def test_a_slow_reader_is_not_left_far_behind(threads: Loop) -> None:
    async def work() -> None:
        with FakeLlama(LONG) as llama:
            stream = AsyncLlamaBridge.of(llama).generate_stream("hi")
            for _ in range(3):
                await anext(stream)
                await anyio.sleep(0.1)
            stream.cancel()
            said = (await stream.result()).text
            assert 3 <= len(said) <= 3 + AHEAD

    threads(work)


def test_a_stream_that_is_left_half_read_blocks_nobody(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama([LONG, "two", "three"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            stream = bridge.generate_stream("hi")
            read = [await anext(stream)]
            assert (await bridge.generate_continue("and?")).text == "two"
            assert (await bridge.session("work").generate("and?")).text == "three"
            read += [text async for text in stream]
            assert "".join(read) == LONG

    loop(work)


def test_many_tasks_take_turns(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(
            lambda asked: FakeAnswer(f"{asked.prompt}!" * 9, token_seconds=1e-4)
        ) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            found: dict[int, str] = {}

            async def streaming(i: int) -> None:
                stream = bridge.session(f"s{i}").generate_stream(f"p{i}")
                found[i] = "".join([text async for text in stream])

            async def generating(i: int) -> None:
                found[i] = (await bridge.session(f"s{i}").generate(f"p{i}")).text

            async with anyio.create_task_group() as group:
                for i in range(30):
                    group.start_soon(streaming if i % 2 else generating, i)
            assert found == {i: f"p{i}!" * 9 for i in range(30)}
            for i in range(30):
                assert bridge.session(f"s{i}").messages[-1]["content"] == f"p{i}!" * 9

    loop(work)


def test_two_tasks_read_one_stream(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(FakeAnswer(LONG[:60], token_seconds=0.001)) as llama:
            stream = AsyncLlamaBridge.of(llama).generate_stream("hi")
            read: list[str] = []

            async def reading() -> None:
                async for text in stream:
                    read.append(text)

            async with anyio.create_task_group() as group:
                group.start_soon(reading)
                group.start_soon(reading)
            assert sorted(read) == sorted(LONG[:60])

    loop(work)


def test_a_failure_is_told_once_and_the_bridge_goes_on(loop: Loop) -> None:
    async def reading(stream: AsyncStream[str, Generation], read: list[str]) -> None:
        async for text in stream:
            read.append(text)

    async def work() -> None:
        answers: list[Answer] = [
            FakeAnswer("abcdef", fails_after=3),
            FakeAnswer("abc", fails_after=0),
            "fine",
        ]
        with FakeLlama(answers) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            stream, read = bridge.generate_stream("hi"), list[str]()
            with pytest.raises(EngineError, match="as it was told"):
                await reading(stream, read)
            assert read == ["a", "b", "c"]
            assert [text async for text in stream] == []
            with pytest.raises(EngineError, match="no result") as found:
                await stream.result()
            assert "as it was told" in str(found.value.__cause__)
            with pytest.raises(EngineError, match="as it was told"):
                await bridge.generate("hi")
            assert (await bridge.generate("hi")).text == "fine"

    loop(work)


def test_a_function_for_progress_that_raises_ends_the_work(loop: Loop) -> None:
    def raising(step: Progress) -> None:
        raise ZeroDivisionError

    async def work() -> None:
        with FakeLlama() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            with pytest.raises(ZeroDivisionError):
                await bridge.generate("hi", on_progress=raising)
            with pytest.raises(ZeroDivisionError):
                await bridge.load_model("demo", on_progress=raising)
            assert (await bridge.generate("hi")).text == "You said: hi"

    loop(work)


def test_no_event_loop_thread_computes(threads: Loop) -> None:
    seen: set[int] = set()

    async def work() -> None:
        with FakeLlama() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            here = threading.get_ident()
            await bridge.generate("hi", on_progress=lambda _: seen.add(threading.get_ident()))
            await bridge.load_model("demo", on_progress=lambda _: seen.add(threading.get_ident()))
            assert seen
            assert here not in seen

    threads(work)


def test_the_model_is_loaded_once_by_the_first_calls(loop: Loop) -> None:
    loads: list[Progress] = []

    async def work() -> None:
        llama = AsyncLlamaBridge("demo", backend="wasm", n_ctx=512, on_progress=loads.append)
        for name in ("capabilities", "info", "model", "backend"):
            with pytest.raises(NoModel, match="await AsyncLlamaBridge"):
                getattr(llama, name)
        with pytest.raises(NoModel, match="await AsyncLlamaBridge"):
            llama.session()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(llama.tokenize, "hi")
        assert sum(s.stage == "load" and s.done == s.total for s in loads) == 1
        assert (await llama).info.n_ctx == 512
        await llama.close()

    loop(work)


def test_a_model_that_cannot_be_loaded_is_told_where_it_is_awaited(loop: Loop) -> None:
    async def work() -> None:
        from llama_bridge import ModelNotFound

        with pytest.raises(ModelNotFound):
            await AsyncLlamaBridge("missing.gguf")
        with pytest.raises(ModelNotFound):
            async with AsyncLlamaBridge("missing.gguf"):
                pass
        llama = AsyncLlamaBridge("missing.gguf")
        with pytest.raises(ModelNotFound):
            await llama.generate("hi")
        await llama.load_model("demo")
        assert (await llama.generate("Hello!")).text
        await llama.close()
        with pytest.raises(InvalidInput):
            AsyncLlamaBridge("demo", n_ctxx=1)  # type: ignore[call-arg]

    loop(work)


def test_nothing_asynchronous_is_copied() -> None:
    with FakeLlama() as llama:
        bridge = AsyncLlamaBridge.of(llama)
        one: Any
        for one in (bridge, bridge.session(), bridge.generate_stream("hi")):
            with pytest.raises(InvalidInput, match="cannot be copied"):
                copy.copy(one)


def test_types_are_those_of_the_twin() -> None:
    async def work() -> None:
        with FakeLlama() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            answer: Generation = await bridge.generate("hi", max_tokens=3, temperature=0.5)
            stream: AsyncStream[str, Generation] = bridge.generate_stream("hi")
            tokens: list[int] = await bridge.tokenize("hi", add_special=False)
            assert answer.text
            assert (await stream.result()).text
            assert tokens
            await stream.close()

    asyncio.run(work())
