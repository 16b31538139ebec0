"""After a failure in the guest: a typed error, a dead engine that says so, and a new one that works."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from llama_bridge.errors import BackendUnavailable, ClosedError, EngineError
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge_wasm import BACKEND, WasmBackend
from llama_bridge_wasm.engine.wasm_engine import WasmEngine

from .conftest import MakeGuest, load, put

GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def own_engine(wasm: Path, demo: ModelFile) -> WasmEngine:
    return BACKEND.load(demo, ModelParams(n_ctx=256))


def test_a_trap_becomes_an_engine_error_and_a_new_engine_works(
    own_engine: WasmEngine, demo: ModelFile
) -> None:
    with pytest.raises(EngineError, match=r"stopped in lb_tokenize: .*out of bounds"):
        own_engine.guest.call("lb_tokenize", -8, 4, 0, 0, 0, 0)
    for work in (lambda: own_engine.length, lambda: own_engine.decode([1]), own_engine.clear):
        with pytest.raises(EngineError, match="Load the model again"):
            work()
    own_engine.cancel()
    own_engine.close()
    again = BACKEND.load(demo, ModelParams(n_ctx=256))
    assert again.decode([1, 2, 3]) == 3
    again.close()


def test_use_after_close_is_a_closed_error_and_closing_twice_is_silent(
    own_engine: WasmEngine,
) -> None:
    own_engine.close()
    own_engine.close()
    own_engine.cancel()
    with pytest.raises(ClosedError):
        own_engine.decode([1])
    with pytest.raises(ClosedError):
        _ = own_engine.length


def test_cancelling_while_another_thread_closes_is_safe(wasm: Path, demo: ModelFile) -> None:
    def cancel_often(engine: WasmEngine) -> None:
        for _ in range(2000):
            engine.cancel()

    for _ in range(10):
        engine = BACKEND.load(demo, ModelParams(n_ctx=256))
        thread = threading.Thread(target=cancel_often, args=[engine])
        thread.start()
        engine.close()
        thread.join()


def test_a_file_that_vanishes_while_it_is_loaded_is_the_hosts_failure(
    make_guest: MakeGuest, demo: ModelFile, tmp_path: Path
) -> None:
    file = tmp_path / "gone.gguf"
    file.write_bytes(demo.path.read_bytes())
    guest = make_guest(file)
    file.unlink()
    with pytest.raises(EngineError, match="the host failed") as caught:
        load(guest)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_guest_reads_the_file_through_any_path_the_host_knows(
    wasm: Path, demo: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "un répertoire"
    folder.mkdir()
    (folder / "模型 1.gguf").write_bytes(demo.path.read_bytes())
    monkeypatch.chdir(folder)
    guest_file = ModelFile(Path("模型 1.gguf"), demo.header)
    engine = BACKEND.load(guest_file, ModelParams(n_ctx=256))
    assert engine.decode([1, 2]) == 2
    engine.close()


def test_a_guest_whose_memory_was_overwritten_harms_only_itself(
    make_guest: MakeGuest, demo: ModelFile
) -> None:
    """A stand-in for any bug in 200,000 lines of C++."""
    guest = make_guest()
    assert load(guest) == 0
    token = put(guest, bytes(4))
    guest.write(1024, random.Random(3).randbytes(guest.memory_size - 1024))

    def use() -> None:
        for _ in range(50):
            guest.call("lb_clear", 0)
            guest.call("lb_decode", 0, token, 1)
            guest.call("lb_alloc", 1 << 20)

    with pytest.raises(EngineError, match="stopped in lb_"):
        use()
    fresh = make_guest()
    assert load(fresh) == 0


def test_without_llama_wasm_probe_says_how_to_build_it(demo: ModelFile, tmp_path: Path) -> None:
    backend = WasmBackend(tmp_path / "llama.wasm")
    found = backend.probe()
    assert not found.ok
    assert found.hint == "python wasm/build.py"
    with pytest.raises(BackendUnavailable, match=r"python wasm/build\.py"):
        backend.load(demo, ModelParams())


def test_a_damaged_llama_wasm_is_a_typed_error(demo: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "llama.wasm").write_bytes(b"\0asm\1\0\0\0 and then nonsense")
    with pytest.raises(BackendUnavailable, match=r"wasmtime refuses|does not accept llama\.wasm"):
        WasmBackend(tmp_path / "llama.wasm").load(demo, ModelParams())
