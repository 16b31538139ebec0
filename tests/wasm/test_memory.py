"""The guest's memory: its limit, its allocator, and that it is given back."""

from __future__ import annotations

import dataclasses
import random
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Literal

import pytest

from llama_bridge.errors import ModelLoadError, OutOfMemory
from llama_bridge.models.memory import kv_bytes_per_token
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.models.what_fits import memory_facts
from llama_bridge.params import ModelParams
from llama_bridge.system_memory import SystemMemory
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.fit import check_fit
from llama_bridge_wasm.hosts.linear_memory import PAGE, find_memory, unshared
from tests.gguf_editing import edited_model

from .conftest import MakeGuest, load, random_model

MIB = 1 << 20


def test_what_cannot_fit_is_refused_before_anything_is_read(
    wasm: Path, demo: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_open(_file: ModelFile) -> BinaryIO:
        raise AssertionError("the file was opened")

    model = open_model(random_model(n_layer=8, n_embd=512, n_ff=2048))
    monkeypatch.setattr(ModelFile, "open", must_not_open)
    with pytest.raises(
        OutOfMemory,
        match=r"weights of \d\d+ MiB, .* 4 MiB for 512 tokens .* do not fit 40 MiB\. .* memory_limit",
    ):
        BACKEND.load(model, ModelParams(n_ctx=512, memory_limit=40 * MIB))
    with pytest.raises(OutOfMemory, match=r"960 MiB for 262144 tokens .* 128 MiB\. .* at most\)"):
        BACKEND.load(demo, ModelParams(n_ctx=1 << 18, memory_limit=128 * MIB))
    with pytest.raises(OutOfMemory, match=r"do not fit 4096 MiB\. .* smaller n_ctx"):
        BACKEND.load(demo, ModelParams(n_ctx=1 << 22))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize("kv", ["f16", "q8_0", "f32"])
def test_what_is_known_before_is_never_more_than_what_is_used(
    wasm: Path,
    architecture: str,
    kv: Literal["f16", "q8_0", "f32"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a model that fits would be refused."""
    size = {"n_embd": 256, "n_head": 4, "n_head_kv": 2, "n_ff": 512}
    model = open_model(random_model(architecture=architecture, **size))
    params = ModelParams(n_ctx=4096, type_k=kv, type_v=kv)
    engine = BACKEND.load(model, params)
    used = engine.guest.memory_size
    engine.close()
    check_fit(model, dataclasses.replace(params, memory_limit=used), SystemMemory(None, None))


def test_the_kv_cache_of_a_dense_model_is_known_exactly(wasm: Path) -> None:
    size = {"n_layer": 3, "n_embd": 256, "n_head": 4, "n_head_kv": 2, "n_ff": 512}
    model = open_model(random_model(**size))
    used = []
    for n_ctx in (16_384, 65_536):
        params = ModelParams(n_ctx=n_ctx)
        assert kv_bytes_per_token(model.header) == 3 * 2 * 64 * 2 * 2
        engine = BACKEND.load(model, params)
        used.append(engine.guest.memory_size)
        engine.close()
    grown = (used[1] - used[0]) / (65_536 - 16_384)
    assert 1536 <= grown < 1536 + 1200, "the rest is the mask of 128 tokens, and where each cell is"


def test_a_kv_cache_larger_than_the_address_space_is_refused(wasm: Path, demo: ModelFile) -> None:
    with pytest.raises(OutOfMemory, match="KV cache"):
        BACKEND.load(demo, ModelParams(n_ctx=1 << 22))


def test_a_limit_too_small_for_the_module_itself_is_refused(wasm: Path, demo: ModelFile) -> None:
    with pytest.raises(OutOfMemory):
        BACKEND.load(demo, ModelParams(n_ctx=512, memory_limit=4 * MIB))


def test_a_module_for_an_ordinary_memory_differs_in_one_bit(wasm: Path) -> None:
    code = wasm.read_bytes()
    asked = find_memory(code)
    assert (asked.module, asked.name) == ("env", "memory")
    assert asked.minimum * PAGE < 24 * MIB
    assert asked.maximum * PAGE > 4095 * MIB
    other = unshared(code)
    assert len(other) == len(code)
    changed = [(a, b) for a, b in zip(code, other, strict=True) if a != b]
    assert changed == [(3, 1)]
    assert unshared(other) == other
    for broken in (b"", b"\0asm\1\0\0\0", code[:9], b"\0asm\1\0\0\0\2\1\0", code[: asked.flags_at]):
        with pytest.raises(ValueError, match="imports a memory"):
            unshared(broken)


def test_a_memory_is_as_large_as_the_limit_allows(wasm: Path) -> None:
    asked = find_memory(wasm.read_bytes())
    here = Path("model.gguf")
    assert asked.most(1 << 40, here) == asked.maximum
    assert asked.most(40 * MIB + 1000, here) == 640
    assert asked.most(asked.minimum * PAGE, here) == asked.minimum
    with pytest.raises(OutOfMemory, match=r"alone needs 1\d MiB, but memory_limit is 1\d MiB"):
        asked.most(asked.minimum * PAGE - 1, here)


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


@pytest.mark.parametrize("word", ["failed to allocate", "out of memory"])
def test_words_do_not_decide_what_an_error_is(wasm: Path, tmp_path: Path, word: str) -> None:
    edited_model(tmp_path / "m.gguf", {"general.architecture": word})
    with pytest.raises(ModelLoadError, match=word) as caught:
        BACKEND.load(open_model(tmp_path / "m.gguf"), ModelParams(n_ctx=256))
    assert type(caught.value) is ModelLoadError


_LIMITED = """
import resource, sys
from llama_bridge import LlamaBridge, OutOfMemory
with open("/proc/self/statm") as now: used = int(now.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    with LlamaBridge("demo", backend="wasm", n_threads=2) as llama: print(llama.generate("Hi", max_tokens=2).usage)
except OutOfMemory as error: print("OutOfMemory:", error.reason)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize(
    ("gibibytes", "fits"), [(1.0, False), (6.0, False), (8.14, False), (9.4, True), (13.8, True)]
)
def test_without_address_space_it_is_out_of_memory_and_says_what_to_do(
    wasm: Path, gibibytes: float, fits: bool
) -> None:
    """8.14 is enough for the two reservations and not for llama.wasm's code; 9.4 is enough for one thread only.

    chat.wasm takes 0.64 of them.
    """
    command = [sys.executable, "-c", _LIMITED, str(int(gibibytes * 2**30))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if fits:
        assert done.stdout.startswith("Usage(prompt_tokens="), done.stderr
    else:
        assert re.match(r"OutOfMemory: .* limit is \d\.\d GiB\. .*ulimit -v", done.stdout), done


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_without_address_space_for_templates_it_says_what_to_do(wasm: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(int(8.6 * 2**30))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"chat\.wasm cannot be started.*\n?.*ulimit -v", done.stderr), done


@pytest.mark.skipif(sys.platform != "emscripten", reason="how a browser refuses memory")
def test_a_page_without_memory_is_out_of_memory(wasm: Path, demo: ModelFile) -> None:
    from llama_bridge_wasm.page import JsException, js, new

    if "Firefox" in str(getattr(js.navigator, "userAgent", "")):
        pytest.skip("Firefox gives memory back only some time later")
    options = new(js.Object)
    options.initial, options.maximum = 1, 1 << 16
    held: list[object] = []

    def fill() -> None:
        while len(held) < 50_000:  # each takes 4 GiB of address space or more
            held.append(new(js.WebAssembly.Memory, options))

    try:
        for _ in range(20):  # the engine may give back late what earlier guests had
            with pytest.raises(JsException):
                fill()
            try:
                BACKEND.load(demo, ModelParams(n_ctx=512)).close()
            except OutOfMemory as error:
                refusal = str(error)
                break
        else:
            pytest.fail("there was memory each time")
    finally:
        held.clear()  # also of a test that failed: the next ones need it
    assert re.search(r"has no memory for llama\.wasm .* close\(\) other models", refusal)
    BACKEND.load(demo, ModelParams(n_ctx=512)).close()


@pytest.mark.parametrize("shape", [{}, {"n_layer": 8, "n_embd": 512, "n_ff": 2048}])
def test_the_table_of_info_tells_what_a_model_takes(wasm: Path, shape: dict[str, int]) -> None:
    model = open_model(random_model(**shape))
    with closing(BACKEND.load(model, ModelParams(n_ctx=2048))) as engine:
        taken = engine.guest.memory_size
    (facts,) = [f for f in memory_facts(model.header, 4096)["memory"] if f["n_ctx"] == 2048]
    assert facts["wasm"] == pytest.approx(taken, abs=10 * MIB)
