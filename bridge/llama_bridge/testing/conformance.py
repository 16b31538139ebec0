"""The engine contract as tests, for those who write a backend.

.. code-block:: python

    from llama_bridge.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def backend(self):
            return MyBackend()
"""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import threading
import time

import pytest

from ..capabilities import Capability
from ..engine import Engine, MemoryKind
from ..errors import ClosedError, UnsupportedCapability
from ..local.engine_backend import EngineBackend
from ..params import SamplingParams
from .conformance_adapters import AdapterTests
from .conformance_ahead import AheadTests
from .conformance_base import GREEDY
from .conformance_embedding import EmbeddingTests
from .conformance_misuse import MisuseTests
from .conformance_parallel import ParallelTests
from .conformance_sampling import SamplingTests

__all__ = ["BackendConformance"]

_RANDOM = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


class BackendConformance(
    SamplingTests, AheadTests, MisuseTests, EmbeddingTests, AdapterTests, ParallelTests
):
    """Subclass it as ``Test...`` and add a fixture ``backend``; if your engine computes, also ``nan_engine``.

    Attributes:
        model: the model to load; a chat model with a context of at least 256 tokens.
        text: the text that it reads.
        difference: how much embeddings may differ between a text alone and in a batch.
    """

    # what it reports

    def test_the_probe_is_quick_and_names_the_backend(self, backend: EngineBackend) -> None:
        start = time.perf_counter()
        availability = backend.probe()
        assert availability.name == backend.name
        assert availability.ok, availability.reason
        assert time.perf_counter() - start < 1

    def test_a_loaded_model_can_do_nothing_that_its_backend_cannot(
        self, backend: EngineBackend, engine: Engine
    ) -> None:
        assert engine.backend == backend.name
        assert engine.capabilities in backend.capabilities
        assert Capability.GENERATE | Capability.TOKENS in engine.capabilities

    def test_its_numbers_are_plausible(self, engine: Engine) -> None:
        info = engine.info
        assert info.n_ctx == 256
        assert info.n_vocab > 0
        assert info.n_threads >= 1
        assert info.end_of_generation
        special = {*info.end_of_generation, *(t for t in (info.bos, info.eos) if t is not None)}
        assert all(0 <= token < info.n_vocab for token in special)
        assert not info.add_bos or info.bos is not None

    # vocabulary

    def test_the_bytes_of_all_tokens_are_the_text(self, engine: Engine) -> None:
        tokens = engine.tokenize(self.text, add_special=False, parse_special=False)
        assert b"".join(map(engine.token_bytes, tokens)).decode().strip() == self.text

    @pytest.mark.parametrize(
        "text", ["", " ", "hello " * 50, "=" * 300, "日本語" * 50, " \n" * 100]
    )
    def test_a_text_has_at_least_as_many_tokens_as_are_foretold(
        self, engine: Engine, text: str
    ) -> None:
        tokens = engine.tokenize(text, add_special=False, parse_special=False)
        assert 0 <= engine.least_tokens(text) <= len(tokens)

    def test_a_whole_text_begins_with_bos_where_the_model_wants_it(self, engine: Engine) -> None:
        assert engine.info.add_bos == (self.prompt(engine)[0] == engine.info.bos)

    def test_control_tokens_are_read_only_where_asked_for(self, engine: Engine) -> None:
        end = min(engine.info.end_of_generation)
        assert engine.token_bytes(end) == b""
        spelled = engine.token_bytes(end, special=True).decode()
        assert engine.tokenize(spelled, add_special=False, parse_special=True) == [end]
        plain = engine.tokenize(spelled, add_special=False, parse_special=False)
        assert end not in plain
        assert b"".join(map(engine.token_bytes, plain)).decode().strip() == spelled

    # the KV cache

    def test_decoding_appends(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        assert engine.length == 0
        assert engine.decode(tokens[:5]) == 5
        assert engine.decode(tokens[5:]) == len(tokens) - 5
        assert engine.length == len(tokens)

    def test_nothing_decoded_changes_nothing(self, engine: Engine) -> None:
        engine.decode(self.prompt(engine))
        held = engine.length
        assert engine.decode([]) == 0
        assert engine.length == held

    def test_a_prompt_in_pieces_is_the_same_prompt(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 8)
        engine.clear()
        for token in tokens:
            engine.decode([token])
        assert self.generate(engine, 8) == expected

    def test_the_context_can_be_filled_to_the_last_token(self, engine: Engine) -> None:
        self.read(engine, (self.prompt(engine) * 256)[: engine.info.n_ctx])
        assert engine.length == engine.info.n_ctx
        engine.set_sampler(GREEDY, 1, [])
        assert 0 <= engine.sample() < engine.info.n_vocab

    def test_clearing_leaves_nothing_behind(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 8)
        self.read(engine, list(reversed(tokens)))
        self.generate(engine, 8)
        engine.clear()
        assert engine.length == 0
        self.read(engine, tokens)
        assert self.generate(engine, 8) == expected

    def test_keeping_all_is_always_possible(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        assert engine.truncate(engine.length)
        assert engine.length == len(self.prompt(engine))

    def test_a_rewound_cache_is_as_if_the_rest_had_never_been(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 8)
        self.read(engine, tokens[:-3])
        engine.decode(list(reversed(tokens))[:10])
        held = engine.length
        if engine.truncate(len(tokens) - 3):
            assert engine.length == len(tokens) - 3
            engine.decode(tokens[-3:])
            assert self.generate(engine, 8) == expected
        else:
            assert engine.info.memory is not MemoryKind.DENSE, "a dense cache can be rewound"
            assert engine.length == held

    def test_a_prefix_cache_can_be_rewound(self, engine: Engine) -> None:
        self.needs(engine, Capability.PREFIX_CACHE)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 8)
        self.read(engine, tokens)
        for length in (len(tokens) - 1, 1):
            assert engine.truncate(length), "PREFIX_CACHE needs this"
            assert engine.length == length
            engine.decode(tokens[length:])
            assert self.generate(engine, 8) == expected
            assert engine.truncate(len(tokens))

    # sampling

    def test_a_step_is_a_decode_and_a_sample(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        expected = self.generate(engine, 6)
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [])
        tokens = [engine.sample()]
        while len(tokens) < 6:
            engine.decode(tokens[-1:])
            tokens.append(engine.sample())
        assert tokens == expected
        assert engine.length == len(self.prompt(engine)) + 5

    def test_an_answer_goes_on_from_its_own_tokens(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        answer = self.generate(engine, 12)
        self.read(engine, self.prompt(engine) + answer[:6])
        assert self.generate(engine, 6) == answer[6:]

    def test_greedy_takes_the_best_logit(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [])
        logits = engine.logits()
        assert (len(logits), logits.format) == (engine.info.n_vocab, "f")
        values = logits.tolist()
        assert values[engine.sample()] == max(values)

    def test_a_seed_reproduces(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        once = self.generate(engine, 8, _RANDOM)
        self.read(engine, self.prompt(engine))
        assert self.generate(engine, 8, _RANDOM) == once

    # cancelling

    def test_a_cancelled_decode_keeps_what_it_says(self, engine: Engine) -> None:
        tokens = self.prompt(engine)
        engine.cancel()
        assert not self.is_at_rest(engine)
        done = engine.decode(tokens)
        assert done < len(tokens)
        assert engine.length == done
        engine.clear_cancel()
        assert self.is_at_rest(engine)
        engine.decode(tokens[done:])
        answer = self.generate(engine, 8)
        self.read(engine, tokens)
        assert self.generate(engine, 8) == answer

    def test_a_cancelled_step_leaves_its_token_out(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [])
        token = engine.sample()
        engine.cancel()
        assert engine.step(token) is None
        assert engine.length == len(self.prompt(engine))

    def test_cancel_comes_from_another_thread(self, engine: Engine) -> None:
        self.read(engine, self.prompt(engine))
        engine.set_sampler(GREEDY, 1, [])
        token: int | None = engine.sample()
        timer = threading.Timer(0.02, engine.cancel)
        timer.start()
        patience = time.monotonic() + 10
        while token is not None and time.monotonic() < patience:
            if engine.length == engine.info.n_ctx:
                engine.clear()
                if engine.decode(self.prompt(engine)) < len(self.prompt(engine)):
                    break
            token = engine.step(token)
        timer.join()
        assert not self.is_at_rest(engine)
        assert time.monotonic() < patience, "the cancel had no effect"

    # state

    def test_a_saved_state_continues_in_another_engine(
        self, backend: EngineBackend, engine: Engine
    ) -> None:
        self.needs(engine, Capability.SESSION_PERSISTENCE)
        tokens = self.prompt(engine)
        self.read(engine, [*tokens, tokens[-1]])
        expected = self.generate(engine, 8)
        self.read(engine, tokens)
        state = engine.state_get()
        other = self.load(backend)
        try:
            assert other.state_length(state) == len(tokens)
            assert other.state_set(state, tokens)
            assert other.length == len(tokens)
            other.decode(tokens[-1:])
            assert self.generate(other, 8) == expected
        finally:
            other.close()

    def test_what_is_no_state_is_refused_and_leaves_nothing(self, engine: Engine) -> None:
        self.needs(engine, Capability.SESSION_PERSISTENCE)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        state = bytes(engine.state_get())
        for wrong in (b"", state[: len(state) // 2], state[:-1], state + b"more"):
            self.read(engine, tokens)
            assert not engine.state_set(memoryview(bytearray(wrong)), tokens)
            assert engine.length in (0, len(tokens))

    def test_a_state_of_another_number_of_tokens_is_refused(self, engine: Engine) -> None:
        self.needs(engine, Capability.SESSION_PERSISTENCE)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        state = engine.state_get()
        for wrong in (tokens[:-1], [*tokens, tokens[-1]]):
            assert not engine.state_set(state, wrong)
            assert engine.length in (0, len(tokens))
        assert engine.state_set(state, tokens)
        assert engine.length == len(tokens)

    def test_a_state_is_a_copy(self, engine: Engine) -> None:
        self.needs(engine, Capability.SESSION_PERSISTENCE)
        tokens = self.prompt(engine)
        self.read(engine, tokens)
        state = engine.state_get()
        expected = self.generate(engine, 8)
        for _ in range(2):
            engine.clear()
            assert engine.state_set(state, tokens)
            assert engine.truncate(len(tokens) - 1) or engine.info.memory is not MemoryKind.DENSE
            if engine.length == len(tokens) - 1:
                engine.decode(tokens[-1:])
                assert self.generate(engine, 8) == expected

    def test_without_session_persistence_state_is_refused(self, engine: Engine) -> None:
        if Capability.SESSION_PERSISTENCE in engine.capabilities:
            pytest.skip(f"the {engine.backend} backend has session_persistence")
        engine.decode(self.prompt(engine))
        with pytest.raises(UnsupportedCapability):
            engine.state_get()
        with pytest.raises(UnsupportedCapability):
            engine.state_set(memoryview(bytearray(64)), self.prompt(engine))
        assert engine.length == len(self.prompt(engine))

    # life

    def test_closing_twice_is_silent_and_use_after_it_one_clear_error(
        self, backend: EngineBackend
    ) -> None:
        engine = self.load(backend)
        tokens = self.prompt(engine)
        engine.close()
        engine.close()
        engine.cancel()
        with pytest.raises(ClosedError):
            engine.decode(tokens)
        with pytest.raises(ClosedError):
            engine.clear()
        with pytest.raises(ClosedError):
            self.prompt(engine)
        with pytest.raises(ClosedError):
            _ = engine.length

    def test_two_models_do_not_share_a_cache(self, backend: EngineBackend, engine: Engine) -> None:
        other = self.load(backend)
        try:
            other.decode(self.prompt(other))
            assert engine.length == 0
        finally:
            other.close()
