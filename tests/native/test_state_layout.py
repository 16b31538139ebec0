"""What of a KV state is checked before llama.cpp reads it: every field that decides how it is read."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import Capability, EngineError, LlamaBridge, ModelParams, SamplingParams
from llama_bridge.engine import Engine
from llama_bridge.snapshot import Snapshot
from tests.ledger import engine_of, machine
from tools.random_model import cached_model, write_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native.state_layout import SPARSE_ATTENTION, StateLayout

GREEDY = SamplingParams(temperature=0, max_tokens=5)
PROMPT = "Once upon a time there was a small house in a wide and quiet land. " * 4
SETTINGS = {
    "f16": ModelParams(n_ctx=512),
    "transposed": ModelParams(n_ctx=512, flash_attn=False),
    "q8_0": ModelParams(n_ctx=512, type_k="q8_0", type_v="q8_0"),
}


@pytest.fixture(scope="module", params=["llama", "qwen2vl", "gemma3", "mamba", "lfm2"])
def model(request: pytest.FixtureRequest) -> Path:
    return cached_model(architecture=request.param, n_head=2, n_head_kv=1, seed=3)


@pytest.fixture(scope="module", params=list(SETTINGS))
def llama(request: pytest.FixtureRequest, model: Path) -> Iterator[LlamaBridge]:
    with LlamaBridge(model, backend="native", params=SETTINGS[request.param]) as bridge:
        yield bridge


def read(llama: LlamaBridge) -> tuple[Engine, list[int], bytearray]:
    llama.generate(PROMPT, sampling=GREEDY)
    engine, tokens = engine_of(llama), list(llama.session().tokens)
    return engine, tokens, bytearray(engine.state_get())


def test_what_the_engine_gives_it_takes(llama: LlamaBridge) -> None:
    engine, tokens, state = read(llama)
    for length in (len(tokens), len(tokens) - 1, 70, 33, 32, 31, 2, 1):
        if not engine.truncate(length):
            engine.clear()
            engine.decode(tokens[:length])
        state = bytearray(engine.state_get())
        assert engine.state_length(memoryview(state)) == length
        engine.clear()
        assert engine.state_set(memoryview(state), tokens[:length])
        assert engine.length == length


def test_every_field_is_checked_and_a_refusal_touches_nothing(llama: LlamaBridge) -> None:
    engine, tokens, state = read(llama)
    n_fields = 4 * (4 + len(tokens) * 3)  # from here on it is mostly data, which anyone may forge
    draw = random.Random(5)
    refused = 0
    for at in range(8, min(n_fields, len(state) - 3), 4):
        (old,) = struct.unpack_from("<I", state, at)
        wrong = draw.choice([old + 1, old ^ 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_FFFF, old ^ 1])
        forged = bytearray(state)
        struct.pack_into("<I", forged, at, wrong & 0xFFFF_FFFF)
        if not engine.state_set(memoryview(forged), tokens):
            refused += 1
            if engine.length != len(tokens):  # llama.cpp itself refused it: seldom
                assert engine.length == 0
                engine.decode(tokens)
        elif llama.info.memory.value in ("dense", "swa"):
            pytest.fail(f"the field at byte {at} can be {wrong}")
    assert refused > 5
    for wrong_size in (state[:-1], state[:-4], state[:8], state + b"\0", state + state[8:]):
        assert not engine.state_set(memoryview(bytearray(wrong_size)), tokens)
        assert engine.length == len(tokens)


def test_nan_in_the_cache_is_an_error_and_heals(llama: LlamaBridge) -> None:
    engine, tokens, state = read(llama)
    expected = llama.generate_continue(" and then", sampling=GREEDY).text
    nan = struct.pack("<f", float("nan")) * 4
    if llama.info.type_k == "q8_0":
        pytest.skip("what is NaN depends on the block")
    for at in range(len(state) - 16, len(state) - 2000, -16):
        forged = bytearray(state)
        forged[at : at + 16] = nan
        if engine.state_set(memoryview(bytearray(forged)), tokens):
            break
    session = machine(llama)
    for params in (GREEDY, SamplingParams(temperature=1, seed=1), SamplingParams(top_k=0, seed=1)):
        forged_state = memoryview(bytearray(forged))
        assert session.restore(Snapshot(tuple(tokens), len(tokens), state=forged_state))
        with pytest.raises(EngineError, match="NaN"):
            llama.generate_continue(" and then", sampling=params)
        assert session.kv.conversation == tokens
        answer = llama.generate_continue(" and then", sampling=GREEDY)
        assert (answer.text, answer.usage.cached_tokens) == (expected, 0)


def test_sparse_attention_keeps_no_session_files(tmp_path: Path) -> None:
    # No such model is small enough to make: what counts is that the flag is not promised for one.
    assert "glm-dsa" in SPARSE_ATTENTION
    write_model(tmp_path / "m.gguf")
    with LlamaBridge(tmp_path / "m.gguf", backend="native") as llama:
        assert Capability.SESSION_PERSISTENCE in llama.capabilities


class Written:
    """States written as llama.cpp writes them, of memories that no small model has."""

    @staticmethod
    def attention(positions: list[int], *, values: bool = True, n_layers: int = 2) -> bytes:
        data = struct.pack("<II", 1, len(positions))
        for position in positions:
            data += struct.pack("<iIi", position, 1, 0)
        row = struct.pack("<iQ", 1, 8) + bytes(8 * len(positions))
        return data + struct.pack("<II", 0, n_layers) + row * (n_layers * (1 + values))

    @staticmethod
    def recurrent(position: int) -> bytes:
        row = struct.pack("<iQ", 0, 12) + bytes(12)
        return struct.pack("<IiIII", 1, position, 0, 0, 2) + row * 3


def accepts(layout: StateLayout, state: bytes, n_tokens: int) -> bool:
    try:
        layout.check(memoryview(state), range(n_tokens))
    except ValueError:
        return False
    return True


def test_latent_attention_has_no_values() -> None:
    dense = StateLayout(1, 1, attention=True, recurrent=False, n_layers=2)
    latent = StateLayout(1, 1, attention=True, recurrent=False, n_layers=2, values=False)
    for positions in ([0, 1, 2], [2, 0, 1]):
        whole = Written.attention(positions)
        keys = Written.attention(positions, values=False)
        assert (accepts(dense, whole, 3), accepts(latent, whole, 3)) == (True, False)
        assert (accepts(dense, keys, 3), accepts(latent, keys, 3)) == (False, True)
    for wrong in ([0, 1], [0, 1, 1], [0, 1, 3], [-1, 0, 1], [0, 1, 2, 3]):
        assert not accepts(dense, Written.attention(wrong), 3)


def test_a_window_may_be_short_but_not_too_short() -> None:
    sliding = StateLayout(1, 1, attention=True, recurrent=False, n_layers=2, window=4)
    jumping = StateLayout(1, 1, attention=True, recurrent=False, n_layers=2, window=4, chunked=True)
    hybrid = StateLayout(1, 1, attention=True, recurrent=True, n_layers=2, window=4)
    full = list(range(10))
    for first, slides, jumps in (
        (5, True, True),
        (6, True, True),
        (7, True, True),
        (8, False, True),
    ):
        state = Written.attention(full) + Written.attention(full[first:])
        assert accepts(sliding, state, 10) is slides
        assert accepts(jumping, state, 10) is jumps
        assert accepts(hybrid, state + Written.recurrent(9), 10) is slides
    assert not accepts(sliding, Written.attention(full[7:]) * 2, 10)
    assert not accepts(jumping, Written.attention(full) + Written.attention(full[9:]), 10)
    assert not accepts(hybrid, Written.attention(full) + Written.recurrent(9), 10)


@pytest.mark.parametrize(
    ("window", "chunked", "length", "first"),
    [(4, False, 10, 7), (4, False, 2, 0), (4, True, 10, 8), (4, True, 3, 0), (4, True, 8, 8)],
)
def test_a_rewind_and_a_file_have_one_rule_for_the_window(
    window: int, chunked: bool, length: int, first: int
) -> None:
    layout = StateLayout(1, 1, True, False, 2, window=window, chunked=chunked)
    assert layout.window_start(length) == first


def test_hostile_counts_cost_nothing() -> None:
    layout = StateLayout(1, 1, attention=True, recurrent=True, n_layers=2)
    many = struct.pack("<II", 1, 0xFFFF_FFFF) + bytes(1 << 20)
    layers = Written.attention([0], n_layers=0)[:-4] + b"\xff\xff\xff\xff" + bytes(1 << 20)
    rows = Written.attention([0]) + struct.pack("<IiIII", 1, 0, 0, 0, 2) + bytes(12 << 16)
    started = time.perf_counter()
    for state in (many, layers, rows):
        assert not accepts(layout, state, 1)
    assert time.perf_counter() - started < 0.1


def test_two_thousand_tokens_take_less_than_a_millisecond() -> None:
    layout = StateLayout(1, 1, attention=True, recurrent=False, n_layers=2)
    state = Written.attention(list(range(2048)), n_layers=24)
    times: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        assert accepts(layout, state, 2048)
        times.append(time.perf_counter() - started)
    assert min(times) < 1e-3
