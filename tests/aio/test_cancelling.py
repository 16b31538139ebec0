"""A task that is cancelled ends its own generation, within 50 ms, and the conversation keeps what was said."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    AsyncStream,
    ClosedError,
    EngineError,
    Generation,
    LlamaBridge,
    Progress,
    TextStream,
)
from llama_bridge.aio.threads import Threads
from llama_bridge.testing import FakeAnswer, FakeLlama
from tests.ledger import engine_of, machine

from .conftest import Loop

SLOW = FakeAnswer("0123456789" * 100, token_seconds=0.005)
SOON = 0.05
PATIENCE = 10 * SOON
"""What the tests allow, on machines that do other things too."""


def assert_ledger(llama: LlamaBridge) -> None:
    assert len(machine(llama).kv.tokens) == engine_of(llama).length


async def cancelled_after(
    seconds: float,
    work: Callable[[], Coroutine[Any, Any, object]],
    when: Callable[[], object] = lambda: True,
) -> float:
    """Cancel a task, a while after something has happened; how long it then took to end."""
    ended = 0.0
    with anyio.CancelScope() as scope:

        async def later() -> None:
            nonlocal ended
            while not when():
                await anyio.sleep(0.005)
            await anyio.sleep(seconds)
            ended = time.perf_counter()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            await work()
    assert scope.cancelled_caught
    return time.perf_counter() - ended


def test_a_cancelled_task_ends_its_generation_and_keeps_what_was_said(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama([SLOW, "again"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            took = await cancelled_after(0.2, lambda: bridge.generate("hi"), lambda: llama.asked)
            assert took < PATIENCE
            said = llama.session().messages[-1]["content"]
            assert 0 < len(said) < 400
            assert SLOW.text.startswith(said)
            assert_ledger(llama)
            assert (await bridge.generate_continue("and?")).text == "again"
            assert said in llama.asked[-1].context

    loop(work)


def test_fifty_milliseconds_are_enough(threads: Loop) -> None:
    async def work() -> None:
        with FakeLlama(SLOW) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            took = [await cancelled_after(0.05, lambda: bridge.generate("hi")) for _ in range(9)]
            assert min(took) < SOON

    threads(work)


def test_a_prefill_is_cancelled_too(threads: Loop) -> None:
    async def work() -> None:
        with FakeLlama(prefill_token_seconds=0.01) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            took = await cancelled_after(0.1, lambda: bridge.generate("x" * 3000))
            assert took < PATIENCE
            assert not llama.session().active
            assert (await bridge.generate("hi")).finish_reason == "stop"

    threads(work)


def test_a_real_model_is_cancelled_in_time(threads: Loop, llama_backend: str) -> None:
    async def work() -> None:
        async with AsyncLlamaBridge("demo", backend=llama_backend, n_ctx=4096) as llama:
            prompt = "one two three four " * 300
            took = [
                await cancelled_after(0.02, lambda: llama.generate(prompt, chat=False))
                for _ in range(3)
            ]
            assert min(took) < PATIENCE
            assert (await llama.generate("Hello!")).text

    threads(work)


def test_a_stream_that_is_cancelled_while_it_waits_ends(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama([SLOW, "again"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            read: list[str] = []
            stream = bridge.generate_stream("hi")

            async def reading() -> None:
                async for text in stream:
                    read.append(text)

            assert await cancelled_after(0.1, reading, lambda: read) < PATIENCE
            result = await stream.result()
            assert result.finish_reason == "cancelled"
            assert result.text.startswith("".join(read))
            assert result.text == llama.session().messages[-1]["content"]
            assert len(result.text) <= len(read) + 32
            assert (await bridge.generate_continue("and?")).text == "again"

    loop(work)


def test_a_task_that_waits_for_its_turn_gives_it_up_and_ends_no_other(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(
            [FakeAnswer("0123456789" * 6, token_seconds=0.01), "never", "last"]
        ) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            stream = bridge.generate_stream("first")
            read = [await anext(stream)]
            took = await cancelled_after(0.1, lambda: bridge.session("b").generate("second"))
            assert took < PATIENCE
            took = await cancelled_after(0.05, lambda: bridge.session_reset())
            assert took < PATIENCE
            read += [text async for text in stream]
            assert "".join(read) == "0123456789" * 6
            assert (await stream.result()).finish_reason == "stop"
            await anyio.sleep(0.05)  # a call that was given up is not made later
            assert [asked.prompt for asked in llama.asked] == ["first"]
            assert len(llama.session().messages) == 2
            assert llama.session("b").messages == []

    loop(work)


def test_a_turn_is_given_up_in_the_middle_of_anothers_prefill(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama(["first", "never"], prefill_token_seconds=0.001) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            found: list[str] = []

            async def first() -> None:
                found.append((await bridge.generate("x" * 900)).text)

            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await anyio.sleep(0.1)
                took = await cancelled_after(0.1, lambda: bridge.session("b").generate("second"))
            assert took < PATIENCE
            assert found == ["first"]
            assert len(llama.asked) == 1

    loop(work)


def test_a_dropped_stream_ends(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama([SLOW, "again"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            stream = bridge.generate_stream("hi")
            await anext(stream)
            del stream
            gc.collect()
            begun = time.perf_counter()
            assert (await bridge.generate_continue("and?")).text == "again"
            assert time.perf_counter() - begun < PATIENCE
            assert len(llama.session().messages[1]["content"]) < 40

    loop(work)


def test_a_stream_that_was_never_awaited_asks_nothing(loop: Loop) -> None:
    async def work() -> None:
        with FakeLlama() as llama:
            bridge = AsyncLlamaBridge.of(llama)
            bridge.generate_stream("hi")
            stream = bridge.generate_stream("hi")
            stream.cancel()
            await stream.close()
            await stream.close()
            assert [text async for text in stream] == []
            with pytest.raises(EngineError, match="before it began"):
                await stream.result()
            assert llama.asked == []

    loop(work)


def test_the_consumers_own_error_ends_the_answer(loop: Loop) -> None:
    async def failing(stream: AsyncStream[str, Generation]) -> None:
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError

    async def work() -> None:
        with FakeLlama([SLOW, "again"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            stream = bridge.generate_stream("hi")
            with pytest.raises(ZeroDivisionError):
                await failing(stream)
            assert (await stream.result()).finish_reason == "cancelled"
            assert (await bridge.generate_continue("and?")).text == "again"

    loop(work)


def test_a_load_that_is_cancelled_leaves_no_model_behind(threads: Loop) -> None:
    steps: list[Progress] = []

    async def work() -> None:
        llama = AsyncLlamaBridge("demo", backend="wasm", on_progress=steps.append)
        with anyio.move_on_after(0):
            await llama
        with pytest.raises(ClosedError):
            await llama.generate("hi")

    threads(work)


def test_a_second_load_that_is_cancelled_keeps_the_first_model(threads: Loop) -> None:
    async def work() -> None:
        async with AsyncLlamaBridge("demo", backend="wasm") as llama:
            scope = anyio.CancelScope()
            with scope:
                await llama.load_model("demo", n_ctx=512, on_progress=lambda _: cancel(scope))
            assert scope.cancelled_caught
            assert llama.info.n_ctx != 512
            assert (await llama.generate("Hello!")).text

    def cancel(scope: anyio.CancelScope) -> None:
        if token:
            anyio.from_thread.run_sync(scope.cancel, token=token.pop())
            time.sleep(0.05)

    token: list[Any] = []

    async def with_token() -> None:
        token.append(anyio.lowlevel.current_token())
        await work()

    threads(with_token)


# asyncio's own ways to cancel


def test_asyncio_cancels_in_its_own_ways() -> None:
    async def main() -> None:
        with FakeLlama(lambda asked: "again" if asked.prompt == "last" else SLOW) as llama:
            bridge = AsyncLlamaBridge.of(llama)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(bridge.generate("hi"), 0.05)
            task = asyncio.create_task(bridge.generate("hi"))
            await asyncio.sleep(0.05)
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ExceptionGroup, match="unhandled errors"):
                await beside_a_failure(bridge)
            assert (await bridge.generate("last")).text == "again"
            assert_ledger(llama)

    async def failing() -> None:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def beside_a_failure(bridge: AsyncLlamaBridge) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            await bridge.generate("hi")

    asyncio.run(main())


def test_an_event_loop_that_ends_leaves_the_bridge_to_the_next(threads: Loop) -> None:
    kept: list[Any] = []
    with FakeLlama([SLOW, "again"]) as llama:
        bridge = AsyncLlamaBridge.of(llama)

        async def first() -> None:
            kept.append(bridge.generate_stream("hi"))
            await anext(kept[0])

        async def second() -> str:
            return (await bridge.generate_continue("and?")).text

        async def rest() -> str:
            return "".join([text async for text in kept[0]])

        threads(first)
        kept[0].cancel()
        assert threads(second) == "again"
        assert SLOW.text[1:].startswith(threads(rest))


def test_closing_ends_what_a_task_generates(loop: Loop) -> None:
    async def work() -> None:
        llama = FakeLlama(SLOW)
        bridge = AsyncLlamaBridge.of(llama)
        found: list[object] = []

        async def generating() -> None:
            try:
                found.append((await bridge.generate("hi")).finish_reason)
            except ClosedError:
                found.append("closed")

        async with anyio.create_task_group() as group:
            group.start_soon(generating)
            while not llama.asked:
                await anyio.sleep(0.01)
            begun = time.perf_counter()
            await bridge.close()
            assert time.perf_counter() - begun < PATIENCE
        assert found == ["cancelled"]
        with pytest.raises(ClosedError):
            await bridge.generate("hi")
        await bridge.close()

    loop(work)


INTERRUPTED = """
    import {loop}, os, signal
    from llama_bridge import AsyncLlamaBridge
    from llama_bridge.testing import FakeAnswer, FakeLlama

    llama = FakeLlama([FakeAnswer("0123456789" * 500, token_seconds=0.01), "again"])
    bridge = AsyncLlamaBridge.of(llama)

    async def main():
        read = []
        async for text in bridge.generate_stream("hi"):
            read.append(text)
            if len(read) == 5:
                os.kill(os.getpid(), signal.SIGINT)

    try:
        {loop}.run({argument})
    except KeyboardInterrupt:
        said = llama.session().messages[-1]["content"]
        assert 5 <= len(said) < 100, said
        assert llama.generate_continue("and?").text == "again"
        print("interrupted")
"""


@pytest.mark.parametrize(("name", "argument"), [("asyncio", "main()"), ("trio", "main")])
def test_ctrl_c_ends_the_generation_and_keeps_the_conversation(name: str, argument: str) -> None:
    code = textwrap.dedent(INTERRUPTED.format(loop=name, argument=argument))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_a_program_that_closes_nothing_ends() -> None:
    code = """
        import asyncio
        from llama_bridge import AsyncLlamaBridge

        async def main():
            llama = AsyncLlamaBridge("demo")
            stream = llama.generate_stream("Hello!")
            print(await anext(stream))

        asyncio.run(main())
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip()
    assert done.stderr == ""


def test_a_dropped_bridge_frees_its_model(threads: Loop) -> None:
    async def work() -> None:
        llama = FakeLlama()
        engine = engine_of(llama)
        bridge = AsyncLlamaBridge.of(llama)
        await bridge.generate("hi")
        del llama, bridge
        for _ in range(500):  # a thread of the loop may hold the call for a moment
            gc.collect()
            try:
                engine.token_bytes(1)
            except ClosedError:
                return
            time.sleep(0.01)
        pytest.fail("its model is still there")

    threads(work)


@pytest.mark.parametrize("call", ["generate", "stream", "with_stream"])
def test_a_task_whose_event_loop_is_closed_ends_its_generation_quietly(
    call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def left_behind() -> None:
        with FakeLlama([SLOW, "again"]) as llama:
            bridge = AsyncLlamaBridge.of(llama)

            async def read() -> None:
                async for _ in bridge.generate_stream("hi"):
                    pass

            async def read_with() -> None:
                async with bridge.generate_stream("hi") as stream:
                    async for _ in stream:
                        pass

            calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                "generate": lambda: bridge.generate("hi"),
                "stream": read,
                "with_stream": read_with,
            }

            async def work() -> None:
                task = asyncio.ensure_future(calls[call]())
                while not llama.asked:
                    await asyncio.sleep(0.01)
                left.append(task)

            left: list[asyncio.Future[object]] = []
            own = asyncio.new_event_loop()
            own.run_until_complete(work())
            own.close()
            left.clear()
            gc.collect()
            start = time.perf_counter()
            assert asyncio.run(bridge.generate("and?")).text == "again"
            assert time.perf_counter() - start < 1

    left_behind()
    gc.collect()
    assert "Exception ignored" not in capsys.readouterr().err


def test_an_answer_that_begins_when_its_event_loop_is_closed_ends_at_once() -> None:
    with FakeLlama([SLOW]) as llama:
        may_begin = threading.Event()
        begun: list[TextStream] = []

        def start() -> TextStream:
            may_begin.wait(10)
            begun.append(llama.generate_stream("hi"))
            return begun[0]

        own = asyncio.new_event_loop()
        reading = Threads().read(start)
        task = own.create_task(reading.start())  # still there: not dropped, never woken
        own.run_until_complete(asyncio.sleep(SOON))
        own.close()
        may_begin.set()
        start_of_wait = time.perf_counter()
        while not begun and time.perf_counter() - start_of_wait < 10:
            time.sleep(0.001)
        time.sleep(SOON)
        assert begun[0].result.finish_reason == "cancelled"
        assert not task.done()
        task.get_coro().close()  # or asyncio tells of it


def test_a_coroutine_that_is_closed_by_hand_waits_for_nothing() -> None:
    async def work() -> None:
        with FakeLlama(pooling="mean") as llama:
            bridge = AsyncLlamaBridge.of(llama)
            started = bridge.embed("a", on_progress=lambda step: time.sleep(0.2 * step.done))
            started.send(None)  # a checkpoint
            started.send(None)  # a thread works now
            await asyncio.sleep(0.05)
            started.close()
            assert len(await bridge.embed("b")) == llama.info.n_embd

    asyncio.run(work())
