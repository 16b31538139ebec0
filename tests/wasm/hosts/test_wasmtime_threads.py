"""Threads of the guest on wasmtime: they are this process's, end with the bridge, and may not work."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime

from llama_bridge import LlamaBridge
from llama_bridge.capabilities import Capability
from llama_bridge.errors import EngineError
from llama_bridge.local.cores import usable_cores
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import CheckOp
from llama_bridge_wasm.hosts import hosted
from llama_bridge_wasm.hosts.wasmtime.instance import Instance
from llama_bridge_wasm.hosts.wasmtime.threads import SharedMemory, Threads

from ..conftest import MakeGuest, put, random_model
from ..kernels.kernel_check import check
from ..test_engine import GREEDY, generate, prompt_of
from .test_threads import load, look_up


def running() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("llama.wasm")]


def count_is(n: int) -> bool:
    return len(running()) == n


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert running() == []
    yield
    assert running() == []


def test_a_guest_cannot_start_threads_without_end(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest: Any = make_guest()
    monkeypatch.setattr(guest._threads, "_running", set(range(512)))
    assert guest._threads.spawn(0) < 0
    monkeypatch.undo()


def test_a_large_model_takes_the_cores_and_answers_the_same(wasm: Path) -> None:
    model = open_model(random_model(n_layer=4, n_embd=512, n_ff=2048))
    seen = []
    for n in (0, 1):
        engine = BACKEND.load(model, ModelParams(n_ctx=256, n_threads=n))
        assert engine.info.n_threads == (n or usable_cores())
        engine.decode(list(range(10, 110)))
        seen.append(engine.logits())
        engine.close()
    assert seen[0] == seen[1]


def test_threads_that_allocate_at_once_get_blocks_of_their_own(make_guest: MakeGuest) -> None:
    counts = np.full(4, 50_000, np.float32)
    overwritten = check(make_guest(), CheckOp.MALLOC, [counts], counts.shape, sizes=(), threads=4)
    assert overwritten.values.tolist() == [0, 0, 0, 0]


def test_the_threads_end_with_the_bridge(wasm: Path, demo: ModelFile) -> None:
    with LlamaBridge("demo", backend="wasm", params=ModelParams(n_threads=4)):
        assert len(running()) == 3
    assert running() == []


def test_the_threads_of_a_model_end_when_another_is_loaded(make_guest: MakeGuest) -> None:
    guest = make_guest()
    assert guest.call("lb_probe_threads", 4, 10_000) == 1
    for n in (4, 2, 1, 3):
        assert load(guest, n) == 0
        wait_for(partial(count_is, n - 1))
    guest.call("lb_unload")
    wait_for(lambda: running() == [])


def test_a_trap_ends_all_of_them(make_guest: MakeGuest) -> None:
    guest = make_guest()
    assert guest.call("lb_probe_threads", 4, 10_000) == 1
    assert load(guest, 4) == 0
    assert len(running()) == 3
    with pytest.raises(EngineError, match="Load the model again"):
        look_up(guest, [0] * 8 + [99])  # in a pool of its own
    wait_for(lambda: running() == [])


def test_a_trap_in_another_thread_ends_the_guest(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new thread reads outside of its memory. Who called waits for it at the next barrier, and must not for ever."""
    guest = make_guest()
    assert guest.call("lb_probe_threads", 3, 10_000) == 1
    call = Instance.call

    def trap(instance: Instance, name: str, *args: int) -> int:
        start = name == "lb_thread_start"
        return call(instance, "lb_check", -8, 8, 8) if start else call(instance, name, *args)

    monkeypatch.setattr(Instance, "call", trap)

    def work() -> None:
        assert load(guest, 3) == 0
        guest.call("lb_decode", 0, put(guest, struct.pack("<2i", 1, 2)), 2)

    with pytest.raises(EngineError, match=r"stopped in lb_\w+: .*out of bounds"):
        work()
    wait_for(partial(count_is, 0))


@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
def test_threads_of_a_guest_whose_memory_was_overwritten_end(
    make_guest: MakeGuest, kind: str
) -> None:
    guest = make_guest()
    assert guest.call("lb_probe_threads", 3, 10_000) == 1
    assert load(guest, 3) == 0
    assert len(running()) == 2
    size = guest.memory_size - 1024
    rubbish = {"random": random.Random(4).randbytes(size), "ones": b"\xff" * size}
    guest.write(1024, rubbish.get(kind, bytes(size)))
    guest.close()
    assert running() == []


def test_cancel_stops_all_of_them(wasm: Path) -> None:
    engine = BACKEND.load(
        open_model(random_model(n_layer=4, n_embd=512, n_ff=2048)),
        ModelParams(n_ctx=2048, n_threads=2),
    )
    timer = threading.Timer(0.05, engine.cancel)
    tokens = [7] * 2000
    timer.start()
    done = engine.decode(tokens)
    timer.join()
    assert engine.cancelled
    assert done < len(tokens)
    engine.clear_cancel()
    engine.clear()
    assert engine.decode(tokens[:100]) == 100
    engine.close()


def test_bridges_with_threads_work_side_by_side(wasm: Path) -> None:
    answers: list[str] = []

    def ask() -> None:
        with LlamaBridge("demo", backend="wasm", params=ModelParams(n_threads=2)) as llama:
            for _ in range(3):
                llama.session_reset()
                answers.append(llama.generate("Hello! My name is Zorblax.", sampling=GREEDY).text)

    users = [threading.Thread(target=ask) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert len(answers) == 9
    assert set(answers) == {answers[0]}


@pytest.mark.parametrize("fault", ["refused", "never starts", "raises"])
def test_where_threads_do_not_work_one_does(
    fault: str,
    wasm: Path,
    demo: ModelFile,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def spawn(_self: Threads, _pointer: int) -> int:
        if fault == "raises":
            raise MemoryError("no thread")
        return -1 if fault == "refused" else 0

    monkeypatch.setattr(Threads, "spawn", spawn)
    monkeypatch.setattr(hosted, "_PROBE_MS", 50)
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=4))
    assert engine.info.n_threads == 1
    assert Capability.THREADS not in engine.capabilities
    assert "threads of llama.wasm do not work here, using one" in caplog.text
    assert len(generate(engine, prompt_of(engine), 10)) == 10
    with pytest.raises(EngineError, match="out of bounds"):
        engine.guest.call("lb_tokenize", -8, 4, 0, 0, 0, 0)
    engine.close()


def test_a_system_that_gives_no_more_threads_gives_one(
    wasm: Path, demo: ModelFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if len(running()) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=4))
    assert "can't start new thread" in caplog.text
    assert engine.info.n_threads == 1
    assert len(generate(engine, prompt_of(engine), 5)) == 5
    engine.close()


def test_wasmtime_still_cannot_import_a_shared_memory() -> None:
    """When this fails upstream has mended it, and our SharedMemory can go."""
    config = wasmtime.Config()
    config.shared_memory = config.wasm_threads = True
    kind = wasmtime.MemoryType(wasmtime.Limits(1, 2), shared=True)
    memory = SharedMemory(wasmtime.Engine(config), kind)
    assert memory._as_extern().of.sharedmemory
    with pytest.raises(TypeError, match="incompatible types"):
        wasmtime.SharedMemory._as_extern(memory)
