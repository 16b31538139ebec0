"""Threads of the guest, on every host that has them: the same answers, and no way to take the process along."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.capabilities import Capability
from llama_bridge.errors import ClosedError, EngineError
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import (
    CHECK_PARAMS,
    LOAD_PARAMS,
    MODEL_PATH,
    CheckOp,
    Guest,
    Info,
    Status,
)
from llama_bridge_wasm.engine.wasm_engine import WasmEngine

from ..conftest import last_error, new_guest, put
from ..test_engine import GREEDY, generate, prompt_of

pytestmark = pytest.mark.usefixtures("_threads_work")


@pytest.fixture(scope="module")
def _threads_work(wasm: Path, demo: ModelFile) -> None:
    engine = BACKEND.load(demo, ModelParams(n_ctx=64, n_threads=3))
    engine.close()
    if Capability.THREADS not in engine.capabilities:
        pytest.skip("this host has no threads: no page that is cross-origin isolated")


@pytest.fixture
def pair(demo: ModelFile) -> Iterator[tuple[WasmEngine, WasmEngine]]:
    """One thread, and three."""
    engines = [BACKEND.load(demo, ModelParams(n_ctx=512, n_threads=n)) for n in (1, 3)]
    yield engines[0], engines[1]
    for engine in engines:
        engine.close()


@pytest.fixture
def guest(wasm: Path, demo: ModelFile) -> Iterator[Guest]:
    """With three threads tried, and no model."""
    guest = new_guest(wasm, demo.path)
    assert guest.call("lb_probe_threads", 3, 10_000) == 1
    yield guest
    guest.close()


def load(guest: Guest, n_threads: int) -> int:
    params = put(guest, LOAD_PARAMS.pack(256, 64, 64, n_threads, 1, 1, 1, 1))
    return guest.call("lb_load", put(guest, MODEL_PATH.encode() + b"\0"), params)


def look_up(guest: Guest, ids: list[int]) -> int:
    """Four rows of 32 numbers looked up, with three threads at hand: lb_check, for a row that may not exist."""
    rows = put(guest, bytes(4 * 32 * 4))
    inputs = put(guest, struct.pack("<2I", rows, put(guest, struct.pack(f"<{len(ids)}i", *ids))))
    sizes = (32, 4, len(ids), 0, 0, 0)
    params = put(guest, CHECK_PARAMS.pack(CheckOp.ROWS, 0, 0, 1, 3, *sizes, 0.0, 0.0, 0.0))
    return guest.call("lb_check", params, inputs, put(guest, bytes(4 * 32 * len(ids))))


def test_more_threads_give_the_same_bits(pair: tuple[WasmEngine, WasmEngine]) -> None:
    alone, three = pair
    assert (alone.info.n_threads, three.info.n_threads) == (1, 3)
    assert Capability.THREADS in three.capabilities
    assert generate(alone, prompt_of(alone), 40) == generate(three, prompt_of(three), 40)
    assert alone.logits() == three.logits()


def test_one_thread_on_a_memory_of_its_own_gives_the_same_bits(
    wasm: Path, demo: ModelFile, pair: tuple[WasmEngine, WasmEngine]
) -> None:
    guest = new_guest(wasm, demo.path, shared=False)
    engine = WasmEngine.load(guest, demo, ModelParams(n_ctx=512), "")
    assert Capability.THREADS not in engine.capabilities
    assert generate(engine, prompt_of(engine), 20) == generate(pair[1], prompt_of(pair[1]), 20)
    assert engine.logits() == pair[1].logits()
    engine.close()


def test_bridges_come_and_go(demo: ModelFile) -> None:
    for _ in range(20):
        with LlamaBridge("demo", backend="wasm", params=ModelParams(n_threads=3)) as llama:
            assert llama.info.n_threads == 3
            llama.generate("Hello!", max_tokens=3)


def test_a_model_that_takes_the_place_of_another_has_its_threads_too() -> None:
    params = ModelParams(n_threads=2)
    with LlamaBridge("demo", backend="wasm", params=params) as llama:
        for _ in range(5):  # the other goes only when this one is there
            llama.load_model("demo", params)
            assert llama.info.n_threads == 2


def test_a_model_loaded_again_has_the_threads_it_asks_for(guest: Guest) -> None:
    for n in (3, 2, 1, 3):
        assert load(guest, n) == 0
        assert guest.call("lb_info", Info.N_THREADS) == n
    before = guest.memory_size
    for _ in range(10):
        assert load(guest, 3) == 0
    assert guest.memory_size <= before + (4 << 20), "their stacks are used again"
    assert load(guest, 4) == Status.BAD_ARGUMENT
    assert "lb_probe_threads" in last_error(guest)


def test_nonsense_is_no_number_of_threads(guest: Guest) -> None:
    for n in (0, -1, 513, 1 << 30, -(1 << 31)):
        assert guest.call("lb_probe_threads", n, 10_000) == 0
        assert load(guest, n) == Status.BAD_ARGUMENT
    assert load(guest, 3) == 0


def test_an_abort_ends_the_guest_with_its_threads_and_not_the_process(
    guest: Guest, demo: ModelFile
) -> None:
    """ggml aborts where a row does not exist; two threads wait for work meanwhile."""
    assert look_up(guest, [0, 1, 2, 3, 0, 1, 2, 3, 0]) == 0
    with pytest.raises(EngineError, match=r"stopped in lb_check: .*Load the model again"):
        look_up(guest, [0, 1, 2, 3, 0, 1, 2, 3, 99])
    with pytest.raises(EngineError, match="stopped in lb_check"):
        guest.call("lb_length", 0)
    guest.close()
    with pytest.raises(ClosedError):
        guest.call("lb_length", 0)
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=3))
    assert len(generate(engine, prompt_of(engine), 5, GREEDY)) == 5
    engine.close()


def test_a_trap_where_it_is_called_leaves_no_thread_behind(demo: ModelFile) -> None:
    for _ in range(3):  # else there would soon be none left in a page
        engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=3))
        assert engine.info.n_threads == 3
        with pytest.raises(EngineError, match="out of bounds"):
            engine.guest.call("lb_tokenize", -8, 4, 0, 0, 0, 0)
        engine.close()
