"""LoRA adapters in the guest: its calls refuse what is wrong, its file is lent, its memory is bounded."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import ModelFile, ModelLoadError, ModelParams, OutOfMemory
from llama_bridge.models.adapter import read_adapters
from llama_bridge.testing.adapters import write_adapter
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import ADAPTER_PATH, Guest, Status
from llama_bridge_wasm.engine.wasm_engine import WasmEngine
from tests.gguf_editing import Gguf

from .conftest import MakeGuest, last_error, load, put

TOKENS = [1, 300, 17, 33, 9, 512, 77]


def logits(engine: WasmEngine) -> list[float]:
    engine.clear()
    engine.decode(TOKENS)
    return [*engine.logits()]


@pytest.fixture
def adapter(tmp_path: Path, demo: ModelFile) -> Path:
    return write_adapter(tmp_path / "a.gguf", demo)


@pytest.fixture
def with_model(make_guest: MakeGuest) -> Guest:
    guest = make_guest()
    assert load(guest) == 0
    return guest


def lend_and_load(guest: Guest, path: Path) -> int:
    guest.lend(lambda: path.open("rb", buffering=0), path.stat().st_size, path)
    try:
        return guest.call("lb_adapter_load", put(guest, ADAPTER_PATH.encode() + b"\0"))
    finally:
        guest.take_back()


def set_adapters(guest: Guest, *adapters: tuple[int, float]) -> int:
    numbers = put(guest, b"".join(struct.pack("<i", number) for number, _ in adapters))
    scales = put(guest, b"".join(struct.pack("<f", scale) for _, scale in adapters))
    return guest.call("lb_adapters", numbers, scales, len(adapters))


def test_without_a_model_there_are_no_adapters(make_guest: MakeGuest, adapter: Path) -> None:
    guest = make_guest()
    assert lend_and_load(guest, adapter) == Status.NO_MODEL
    assert set_adapters(guest) == Status.NO_MODEL
    assert guest.call("lb_adapter_free", 1) == Status.NO_MODEL


def test_its_calls_refuse_what_is_wrong(with_model: Guest, adapter: Path) -> None:
    guest = with_model
    one, two = (lend_and_load(guest, adapter) for _ in range(2))
    assert 0 < one < two
    assert guest.call("lb_adapter_load", 0) == Status.BAD_ARGUMENT
    for wrong in ([(0, 1.0)], [(-1, 1.0)], [(99, 1.0)], [(one, 1.0), (one, 1.0)], [(one, math.nan)],
                  [(one, math.inf)]):  # fmt: skip
        assert set_adapters(guest, *wrong) == Status.BAD_ARGUMENT
    for arguments in ((0, 0, 1), (0, 0, -1), (put(guest, bytes(8)), 0, 1), (0, 0, 1 << 20)):
        assert guest.call("lb_adapters", *arguments) == Status.BAD_ARGUMENT
    assert set_adapters(guest, (one, 1.0), (two, 0.5)) == 0
    assert guest.call("lb_adapter_free", one) == Status.BAD_ARGUMENT
    assert "in force" in last_error(guest)
    assert set_adapters(guest, (two, 1.0)) == 0
    assert guest.call("lb_adapter_free", one) == 0
    assert guest.call("lb_adapter_free", one) == Status.BAD_ARGUMENT
    assert set_adapters(guest, (one, 1.0)) == Status.BAD_ARGUMENT
    assert guest.call("lb_decode", 0, put(guest, struct.pack("<2i", 1, 300)), 2) == 0


def test_a_model_that_is_loaded_anew_has_none(with_model: Guest, adapter: Path) -> None:
    number = lend_and_load(with_model, adapter)
    assert set_adapters(with_model, (number, 1.0)) == 0
    assert load(with_model) == 0
    assert set_adapters(with_model, (number, 1.0)) == Status.BAD_ARGUMENT
    with_model.call("lb_unload")


def test_its_file_can_be_read_only_while_it_is_lent(with_model: Guest, adapter: Path) -> None:
    path = put(with_model, ADAPTER_PATH.encode() + b"\0")
    assert with_model.call("lb_adapter_load", path) == Status.ENGINE_ERROR
    assert lend_and_load(with_model, adapter) > 0
    assert with_model.call("lb_adapter_load", path) == Status.ENGINE_ERROR


def test_what_llama_cpp_refuses_is_an_error_with_its_words(
    engine: WasmEngine, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preflight finds it first; without it the sandbox holds."""
    plain = logits(engine)
    edited = Gguf(adapter)
    for name in list(edited.tensors)[:2]:
        tensor = edited.tensors.pop(name)
        tensor.name = name.replace("blk.0.", "blk.77.")
        edited.tensors[tensor.name] = tensor
    edited.write(adapter)
    monkeypatch.setattr(
        "llama_bridge_wasm.engine.wasm_engine.check_adapters", lambda adapters, model: None
    )
    with pytest.raises(ModelLoadError, match="does not exist in base model"):
        engine.set_adapters(read_adapters([(adapter, 1.0)]))
    assert engine.info.adapters == ()
    assert logits(engine) == plain


def test_one_that_does_not_fit_is_out_of_memory_and_nothing_changes(
    demo: ModelFile, tmp_path: Path, adapter: Path
) -> None:
    limit = 72 << 20
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, memory_limit=limit))
    try:
        kept = read_adapters([(adapter, 1.0)])
        engine.set_adapters(kept)
        expected = logits(engine)
        large = write_adapter(tmp_path / "large.gguf", demo, rank=1)
        edited = Gguf(large)
        for tensor in edited.tensors.values():
            tensor.shape[1 if tensor.name.endswith("a") else 0] = 4000
            tensor.retype(0)
        edited.write(large)
        assert large.stat().st_size > limit
        with pytest.raises(OutOfMemory, match=r"need about .* MiB beside the model"):
            engine.set_adapters(read_adapters([(large, 1.0)]))
        assert engine.info.adapters == kept
        assert logits(engine) == expected
    finally:
        engine.close()


@pytest.mark.parametrize("limit", [44, 48, 52, 56, 60, 64])
def test_where_memory_is_short_adapters_are_refused_and_the_guest_lives(
    demo: ModelFile, adapter: Path, limit: int
) -> None:
    """llama.cpp plans anew in the first decode with others, and would end the guest if there were no memory for that."""
    engine = BACKEND.load(demo, ModelParams(n_ctx=256, n_threads=1, memory_limit=limit << 20))
    try:
        plain = logits(engine)
        adapters, refused = read_adapters([(adapter, 1.0)]), False
        try:
            engine.set_adapters(adapters)
        except OutOfMemory:
            refused = True
        assert (logits(engine) == plain) is refused
        assert refused or limit > 56
        assert not refused or limit < 64
    finally:
        engine.close()


def test_adapters_that_come_and_go_need_no_more_memory(
    engine: WasmEngine, demo: ModelFile, tmp_path: Path
) -> None:
    adapters = [
        read_adapters([(write_adapter(tmp_path / f"{i}.gguf", demo, rank=32, seed=i), 1.0)])
        for i in range(3)
    ]
    sizes = []
    for _ in range(5):
        for one in adapters:
            engine.set_adapters(one)
            logits(engine)
        sizes.append(engine.guest.memory_size)
    assert sizes[-1] == sizes[1]
    engine.set_adapters(())


QUANTIZATIONS = ["f16", "q4_0", "q8_0"]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_with_adapters_are_native_s(
    make_model: Callable[..., Path], tmp_path: Path, quantization: str, threads: int
) -> None:
    """As near as they are without adapters; random weights amplify what rounding differs."""
    from llama_bridge import EngineBackend, registry
    from llama_bridge.models.source import open_model

    if not registry.candidates("native")[0].probe().ok:
        pytest.skip("needs the native backend")
    file = open_model(make_model(quantization=quantization))
    path = write_adapter(tmp_path / "a.gguf", file, changes=lambda _: True, rank=8)
    found: list[list[list[float]]] = []
    for name in ("native", "wasm"):
        (backend,) = registry.candidates(name)
        assert isinstance(backend, EngineBackend)
        engine: Any = backend.load(file, ModelParams(n_ctx=256, n_threads=threads))
        rows = [logits(engine)]
        engine.set_adapters(read_adapters([(path, 0.75)]))
        found.append([*rows, logits(engine)])
        engine.close()

    def apart(some: list[float], others: list[float]) -> float:
        return max(abs(a - b) for a, b in zip(some, others, strict=True))

    without, with_adapter = (apart(*pair) for pair in zip(*found, strict=True))
    changed = apart(*found[0])
    assert with_adapter < 3 * without + 0.02 < changed / 10
