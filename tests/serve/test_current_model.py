"""One model in place of another, where there may be no room for both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from llama_bridge import ClosedError, LlamaBridge, OutOfMemory, Progress
from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.params import ModelParams
from llama_bridge.serve.current_model import CurrentModel
from llama_bridge.serve.refusals import Refused
from llama_bridge.serve.served import Served
from llama_bridge.testing import FakeBackend, FakeLlama

LONG = "root ::= [a-z ]{400}"
FULL = OutOfMemory("demo", "there is no room for both")


class Machine:
    """Has room for a new model only after so many tries have failed."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried: list[str] = []

    def arguments(self, name: str, untrusted: bool) -> dict[str, Any]:
        assert not untrusted
        self.tried.append(name)
        self.failures -= 1
        error = FULL if self.failures >= 0 else None
        return {"backend": FakeBackend(load_error=error), "params": ModelParams(n_ctx=512)}


@pytest.fixture
def llama() -> Iterator[FakeLlama]:
    with FakeLlama() as made:
        yield made


def models_of(llama: FakeLlama, machine: Machine) -> CurrentModel:
    return CurrentModel(Served("demo", AsyncLlamaBridge.of(llama)), machine.arguments)


def test_without_room_for_both_the_first_goes_before_the_other_comes(llama: FakeLlama) -> None:
    machine = Machine(failures=1)

    async def run() -> None:
        models = models_of(llama, machine)
        await models.use("demo", untrusted=False, on_progress=None)
        assert machine.tried == ["demo", "demo"]
        (served,) = models.loaded()
        assert (await served.llama.generate("Hello!")).text
        await models.close()

    anyio.run(run)


def test_the_first_comes_back_if_the_other_does_not_fit_alone(llama: FakeLlama) -> None:
    """The demo model's name, because a fake backend takes any; "other" would be looked for on the disk."""
    machine = Machine(failures=2)

    async def run() -> None:
        models = models_of(llama, machine)
        with pytest.raises(OutOfMemory):
            await models.use("demo", untrusted=False, on_progress=None)
        assert len(machine.tried) == 3
        (served,) = models.loaded()
        assert served.name == "demo"
        assert (await served.llama.generate("Hello!")).text
        await models.close()

    anyio.run(run)


def test_an_answer_that_is_being_written_keeps_its_model(llama: FakeLlama) -> None:
    machine = Machine(failures=0)

    async def run() -> None:
        models = models_of(llama, machine)
        async with models.borrow(None):
            with pytest.raises(Refused, match="stop it first"):
                await models.use("demo", untrusted=False, on_progress=None)
        assert machine.tried == []

    anyio.run(run)


def test_an_answer_that_begins_while_another_model_is_loaded_is_written_to_its_end() -> None:
    """It was cut when the other model was there."""
    waits, go = threading.Event(), threading.Event()

    def wait(_: Progress) -> None:
        waits.set()
        go.wait(20)

    async def run(llama: LlamaBridge) -> None:
        models = CurrentModel(Served("demo", AsyncLlamaBridge.of(llama)), loading)
        pieces: list[str] = []

        async def ask() -> None:
            await anyio.to_thread.run_sync(waits.wait, 20)
            async with models.borrow(None) as served:
                stream = served.llama.generate_stream("Hello!", grammar=LONG, max_tokens=30)
                async for piece in stream:
                    pieces.append(piece)
                    go.set()
                    await anyio.sleep(0.01)
                assert (await stream.result()).finish_reason == "length"

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await models.use("demo", untrusted=False, on_progress=wait)
        with pytest.raises(ClosedError):
            llama.generate("Hello!")  # closed once its answer was written
        (served,) = models.loaded()
        assert (await served.llama.generate("Hello!")).text
        await models.close()

    def loading(name: str, untrusted: bool) -> dict[str, Any]:
        return {"params": ModelParams(n_ctx=512)}

    with LlamaBridge("demo") as llama:
        anyio.run(run, llama)
