"""The engine on the demo model: the contract, equality with native, and cancelling."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge.capabilities import Capability
from llama_bridge.engine import Engine, MemoryKind
from llama_bridge.errors import ContextOverflow, EngineError, InvalidInput, UnsupportedCapability
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge_native import BACKEND as NATIVE
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.wasm_engine import WasmEngine

from .conftest import random_model

GREEDY = SamplingParams(temperature=0)
PROMPT = "<|user|>\nHello, my name is Wilda.<|end|>\n<|assistant|>\n"


def generate(
    engine: Engine, tokens: list[int], n: int, params: SamplingParams = GREEDY
) -> list[int]:
    engine.decode(tokens)
    engine.set_sampler(params, 7, tokens)
    drawn = [engine.sample()]
    while len(drawn) < n:
        token = engine.step(drawn[-1])
        assert token is not None
        drawn.append(token)
    return drawn


def prompt_of(engine: Engine) -> list[int]:
    return engine.tokenize(PROMPT, add_special=True, parse_special=True)


def test_it_says_what_it_can_and_cannot(engine: WasmEngine) -> None:
    assert Capability.SANDBOX | Capability.TOKENS in engine.capabilities
    for missing in (Capability.KV_CONTINUATION, Capability.SESSION_PERSISTENCE):
        assert missing not in engine.capabilities
    with pytest.raises(UnsupportedCapability):
        engine.state_get()
    assert engine.info.n_ctx == 512
    assert engine.info.memory is MemoryKind.DENSE
    assert engine.info.end_of_generation


def test_text_survives_tokens_and_back(engine: WasmEngine) -> None:
    for text in ("", "a", "Grüße, 世界! 🦙 \0 tab\t", "x" * 5000):
        tokens = engine.tokenize(text, add_special=False, parse_special=False)
        out = b"".join(engine.token_bytes(token) for token in tokens).decode()
        assert out.lstrip(" ") == text.lstrip(" ")


@pytest.mark.parametrize("flag", [None, "", "x", 2, []])
def test_flags_count_by_their_truth(engine: WasmEngine, flag: Any) -> None:
    given = engine.tokenize(PROMPT, add_special=flag, parse_special=flag)
    assert given == engine.tokenize(PROMPT, add_special=bool(flag), parse_special=bool(flag))
    end = min(engine.info.end_of_generation)
    assert bool(engine.token_bytes(end, special=flag)) is bool(flag)


def test_length_is_what_the_cache_holds(engine: WasmEngine) -> None:
    tokens = prompt_of(engine)
    assert engine.decode(tokens) == len(tokens) == engine.length
    engine.set_sampler(GREEDY, 1, [])
    engine.step(engine.sample())
    assert engine.length == len(tokens) + 1
    assert engine.truncate(5)
    assert engine.length == 5
    engine.clear()
    assert engine.length == 0


def test_a_rewound_cache_continues_as_a_fresh_one(engine: WasmEngine) -> None:
    tokens = prompt_of(engine)
    fresh = generate(engine, tokens, 12)
    assert engine.truncate(len(tokens) - 3)
    assert generate(engine, tokens[-3:], 12) == fresh


def test_chunks_do_not_change_the_answer(engine: WasmEngine, demo: ModelFile) -> None:
    expected = generate(engine, prompt_of(engine), 16)
    small = BACKEND.load(demo, ModelParams(n_ctx=512, n_batch=5))
    assert generate(small, prompt_of(small), 16) == expected
    small.close()


def test_a_prompt_in_the_pieces_that_info_names_gives_the_same_bits(engine: WasmEngine) -> None:
    tokens = [10 + i % 500 for i in range(400)]
    size = engine.info.n_batch
    assert size == min(128, engine.guest.chunk)
    engine.decode(tokens)
    at_once = engine.logits()
    engine.clear()
    for start in range(0, len(tokens), size):
        engine.decode(tokens[start : start + size])
    assert engine.logits() == at_once


def test_after_each_whole_piece_the_host_sees_to_other_things(
    engine: WasmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a page a message may then use the engine: nothing of it is held."""
    lengths: list[int] = []
    monkeypatch.setattr(engine.guest, "pause", lambda: lengths.append(engine.length))
    size = engine.info.n_batch
    engine.decode([7] * (2 * size + 1))
    assert lengths == [size, 2 * size]
    engine.decode([7] * size)
    assert lengths == [size, 2 * size, 3 * size + 1]
    engine.set_sampler(GREEDY, 1, [])
    engine.step(engine.sample())
    assert len(lengths) == 3


def test_the_same_seed_draws_the_same_tokens(engine: WasmEngine) -> None:
    tokens = prompt_of(engine)
    lively = SamplingParams(temperature=1.5, repeat_penalty=1.1)
    first = generate(engine, tokens, 24, lively)
    engine.clear()
    assert generate(engine, tokens, 24, lively) == first


def test_a_strong_penalty_forbids_recent_tokens(engine: WasmEngine) -> None:
    tokens = prompt_of(engine)
    never_again = SamplingParams(temperature=0, presence_penalty=100.0, repeat_last_n=256)
    drawn = generate(engine, tokens, 40, never_again)
    assert len(set(drawn)) == 40
    assert not set(drawn) & set(tokens)


def test_logits_are_the_models_and_outlive_it(wasm: Path, demo: ModelFile) -> None:
    engine = BACKEND.load(demo, ModelParams(n_ctx=256))
    with pytest.raises(EngineError, match="no logits"):
        engine.logits()
    tokens = prompt_of(engine)
    drawn = generate(engine, tokens, 1)[0]
    logits = engine.logits()
    assert len(logits) == engine.info.n_vocab
    engine.close()
    assert max(range(len(logits)), key=logits.__getitem__) == drawn


def test_bad_input_is_refused_before_llama_cpp_sees_it(engine: WasmEngine) -> None:
    with pytest.raises(InvalidInput, match="no such token"):
        engine.decode([1, 10**6])
    with pytest.raises(InvalidInput):
        engine.step(-1)
    with pytest.raises(ContextOverflow, match="600 tokens do not fit the context of 512"):
        engine.decode([5] * 600)
    assert engine.length == 0


@pytest.fixture(scope="module")
def native(demo: ModelFile) -> Iterator[Engine]:
    engine = NATIVE.load(demo, ModelParams(n_ctx=512, n_threads=1))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "text",
    [
        PROMPT,
        "<|user|>\nHi!<|end|>\n<|assistant|>\n",
        "<|user|>\nWhat is a KV cache?<|end|>\n<|assistant|>\n",
        "<|user|>\nI live in Quellan. Who are you?<|end|>\n<|assistant|>\n",
    ],
)
def test_greedy_tokens_are_natives(engine: WasmEngine, native: Engine, text: str) -> None:
    native.clear()
    tokens = engine.tokenize(text, add_special=True, parse_special=True)
    assert native.tokenize(text, add_special=True, parse_special=True) == tokens
    ours, theirs = generate(engine, tokens, 48), generate(native, tokens, 48)
    end = next((i for i, t in enumerate(theirs) if t in native.info.end_of_generation), 47)
    assert ours[: end + 1] == theirs[: end + 1]


def test_logits_are_close_to_natives(engine: WasmEngine, native: Engine) -> None:
    native.clear()
    tokens = prompt_of(engine)
    engine.decode(tokens)
    native.decode(tokens)
    ours, theirs = engine.logits().tolist(), native.logits().tolist()
    spread = max(theirs) - min(theirs)
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.03 * spread


class TestOtherMemories:
    """Random models: what they say is noise, how their memory behaves is not."""

    @pytest.mark.parametrize(
        ("architecture", "kind"),
        [("gemma3", MemoryKind.SWA), ("mamba", MemoryKind.RECURRENT), ("lfm2", MemoryKind.HYBRID)],
    )
    def test_a_refused_rewind_changes_nothing(
        self, wasm: Path, architecture: str, kind: MemoryKind
    ) -> None:
        path = random_model(architecture=architecture, n_layer=4, n_swa=32)
        engine = BACKEND.load(open_model(path), ModelParams(n_ctx=1024, n_batch=64))
        assert engine.info.memory is kind
        largest = 64 if kind is MemoryKind.SWA else 32
        assert engine.info.n_batch == min(largest, engine.guest.chunk)
        assert (Capability.PREFIX_CACHE in engine.capabilities) is (kind is MemoryKind.SWA)
        tokens = [10 + i % 500 for i in range(600)]
        assert engine.decode(tokens) == engine.length == 600
        assert not engine.truncate(100), "what the next token must see is gone"
        assert engine.length == 600
        assert engine.truncate(600)
        assert engine.truncate(0)
        assert engine.length == 0
        assert engine.decode(tokens[:20]) == 20
        engine.close()

    def test_a_sliding_window_allows_the_rewind_it_still_holds(self, wasm: Path) -> None:
        path = random_model(architecture="gemma3", n_layer=4, n_swa=32)
        engine = BACKEND.load(open_model(path), ModelParams(n_ctx=1024, n_batch=64))
        tokens = [10 + i % 500 for i in range(600)]
        fresh = generate(engine, tokens, 8)
        if engine.truncate(599):
            assert generate(engine, tokens[599:], 8) == fresh
        engine.close()

    def test_a_recurrent_model_is_cancelled_between_chunks(self, wasm: Path) -> None:
        engine = BACKEND.load(
            open_model(random_model(architecture="mamba")), ModelParams(n_ctx=4096)
        )
        tokens = [10 + i % 500 for i in range(4000)]
        _cancel_soon(engine, 0.05)
        appended = engine.decode(tokens)
        assert 0 <= appended < 4000
        assert engine.length == appended
        engine.close()


@pytest.fixture(scope="module")
def slow(wasm: Path) -> Iterator[WasmEngine]:
    """A model whose prefill of 4,000 tokens takes seconds."""
    path = random_model(n_layer=8, n_embd=512, n_ff=2048, quantization="q8_0")
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=4096))
    yield engine
    engine.close()


class TestCancel:
    """From another thread, in the middle of work."""

    def test_a_prefill_ends_soon_and_the_engine_goes_on(self, slow: WasmEngine) -> None:
        tokens = [10 + i % 500 for i in range(4000)]
        slow.clear_cancel()
        slow.clear()
        cancelled_at = _cancel_soon(slow, 0.3)
        appended = slow.decode(tokens)
        late = time.monotonic() - cancelled_at[0]
        assert appended < 4000
        assert slow.length == appended
        assert late < 1.0
        slow.clear_cancel()
        assert slow.decode([5, 6, 7]) == 3
        assert slow.length == appended + 3

    def test_a_cancelled_step_gives_none_and_appends_nothing(self, slow: WasmEngine) -> None:
        slow.clear_cancel()
        slow.clear()
        slow.decode([5, 6, 7])
        slow.set_sampler(GREEDY, 1, [])
        token = slow.sample()
        slow.cancel()
        assert slow.step(token) is None
        assert slow.length == 3
        slow.clear_cancel()
        slow.decode([token])
        assert slow.length == 4

    def test_ctrl_c_is_not_lost_and_the_engine_goes_on(self, slow: WasmEngine) -> None:
        slow.clear_cancel()
        slow.clear()
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            slow.decode([10 + i % 500 for i in range(4000)])
        kept = slow.length
        assert kept < 4000
        assert slow.decode([5, 6, 7]) == 3
        assert slow.length == kept + 3


def _cancel_soon(engine: Engine, seconds: float) -> list[float]:
    at: list[float] = []

    def cancel() -> None:
        at.append(time.monotonic())
        engine.cancel()

    threading.Timer(seconds, cancel).start()
    return at
