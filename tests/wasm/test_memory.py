"""The guest's memory: its limit, its allocator, and that it is given back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llama_bridge.errors import ModelLoadError, OutOfMemory
from llama_bridge.models import ModelFile, open_model
from llama_bridge.params import ModelParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.memory_limit import limited, memory_of

from .conftest import MakeGuest, load, random_model

MIB = 1 << 20


def test_a_model_larger_than_the_limit_is_refused_with_the_numbers(wasm: Path) -> None:
    model = open_model(random_model(n_layer=8, n_embd=512, n_ff=2048))
    with pytest.raises(OutOfMemory, match=r"file of \d\d+ MiB .* 512 tokens do not fit 40 MiB"):
        BACKEND.load(model, ModelParams(n_ctx=512, memory_limit=40 * MIB))


def test_a_kv_cache_that_does_not_fit_is_refused_with_the_numbers(
    wasm: Path, demo: ModelFile
) -> None:
    with pytest.raises(
        OutOfMemory, match=r"262144 tokens do not fit 128 MiB \(\d+ MiB in use"
    ) as caught:
        BACKEND.load(demo, ModelParams(n_ctx=1 << 18, memory_limit=128 * MIB))
    assert "n_ctx" in str(caught.value)


def test_a_kv_cache_larger_than_the_address_space_is_refused(wasm: Path, demo: ModelFile) -> None:
    with pytest.raises(OutOfMemory, match="KV cache"):
        BACKEND.load(demo, ModelParams(n_ctx=1 << 22))


def test_a_limit_too_small_for_the_module_itself_is_refused(wasm: Path, demo: ModelFile) -> None:
    with pytest.raises(OutOfMemory):
        BACKEND.load(demo, ModelParams(n_ctx=512, memory_limit=4 * MIB))


def test_a_module_with_a_smaller_memory_is_the_same_module(wasm: Path) -> None:
    code = wasm.read_bytes()
    least, most = memory_of(code)
    assert (least, most) > (MIB, 1 << 31)
    for limit in (least, 40 * MIB, 128 * MIB, 1 << 31):
        smaller = limited(code, limit + 1000)
        assert memory_of(smaller) == (least, limit)
        assert limited(smaller, most) == smaller
        assert smaller.endswith(code[64_000:])
    for broken in (b"", b"\0asm\1\0\0\0", code[:9], b"\0asm\1\0\0\0\5\1\0"):
        with pytest.raises(ValueError, match="memor"):
            limited(broken, MIB)


def test_whatever_does_not_fit_ends_in_the_same_error(wasm: Path, demo: ModelFile) -> None:
    outcomes: list[bool] = []
    for limit in range(24, 121, 12):
        try:
            engine = BACKEND.load(demo, ModelParams(n_ctx=8192, memory_limit=limit * MIB))
        except OutOfMemory:
            outcomes.append(False)
        else:
            outcomes.append(True)
            assert engine.guest.memory_size <= limit * MIB
            engine.close()
    assert outcomes == sorted(outcomes), "more memory never makes it fail"
    assert outcomes[0] is False
    assert outcomes[-1] is True


def test_weights_are_held_once(wasm: Path) -> None:
    path = random_model(n_layer=8, n_embd=512, n_ff=2048)
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=256))
    used = engine.guest.memory_size
    engine.close()
    assert used < path.stat().st_size + 60 * MIB


def test_a_model_loaded_again_and_again_needs_no_more_memory(make_guest: MakeGuest) -> None:
    guest = make_guest()
    assert load(guest) == 0
    before = guest.memory_size
    for _ in range(5):
        assert load(guest) == 0
    assert guest.memory_size <= before + 2 * MIB


def test_the_allocator_keeps_blocks_apart_and_uses_memory_again(make_guest: MakeGuest) -> None:
    guest = make_guest(memory_limit=160 * MIB)
    rng = random.Random(5)
    live: dict[int, tuple[int, bytes]] = {}
    high = 0
    for round_ in range(6):
        for _ in range(400):
            if live and rng.random() < 0.45:
                pointer, (size, mark) = live.popitem()
                _assert_marked(guest.read(pointer, size), mark)
                guest.call("lb_free", pointer)
                continue
            size = rng.choice((1, 7, 8, 24, 100, 255, 256, 4000, 70_000, rng.randrange(1, 300_000)))
            pointer = guest.call("lb_alloc", size) & 0xFFFFFFFF
            assert pointer
            assert pointer % 16 == 0
            mark = rng.randbytes(1)
            guest.write(pointer, mark * size)
            live[pointer] = size, mark
        items = list(live.items())
        rng.shuffle(items)
        for pointer, (size, mark) in items:
            _assert_marked(guest.read(pointer, size), mark)
            guest.call("lb_free", pointer)
        live.clear()
        if round_ == 2:
            high = guest.memory_size
    assert guest.memory_size <= high + 8 * MIB


def test_a_large_block_takes_little_more_than_its_size(make_guest: MakeGuest) -> None:
    guest = make_guest(memory_limit=256 * MIB)
    before = guest.memory_size
    assert guest.call("lb_alloc", 133 * MIB)
    assert guest.memory_size - before < 134 * MIB
    assert guest.call("lb_alloc", 133 * MIB) == 0, "beyond the limit"
    assert guest.call("lb_alloc", -1) == 0, "4 GiB less one byte"
    assert guest.call("lb_alloc", 1000)


def _assert_marked(data: bytearray, mark: bytes) -> None:
    assert data == mark * len(data)


def test_a_damaged_model_is_refused_in_llama_cpps_own_words(
    wasm: Path, demo: ModelFile, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    data = bytearray(demo.path.read_bytes())
    at = data.index(b"blk.1.ffn_up.weight")
    data[at : at + 5] = b"xxx.1"
    damaged.write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"blk\.1\.ffn_up\.weight|wrong number of tensors"):
        BACKEND.load(open_model(damaged), ModelParams(n_ctx=256))
