"""Basis of the conformance tests: an engine to test, and helpers that use it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ..capabilities import Capability
from ..engine import Engine
from ..kv_sequence import KvSequence
from ..local.engine_backend import EngineBackend
from ..models.source import DEMO, open_model
from ..params import ModelParams, SamplingParams

__all__ = ["GREEDY", "EngineTests"]

GREEDY = SamplingParams(temperature=0)


class EngineTests:
    """Fixtures and helpers of :class:`~llama_bridge.testing.BackendConformance`.

    A second fixture, ``nan_engine``, is optional.

    Attributes:
        model: the model to load; a chat model with a context of at least 256 tokens.
        text: the text that it reads.
    """

    model: str = DEMO
    text: str = "My name is Ada. What is a KV cache? Grüße, 世界!"

    @pytest.fixture
    def backend(self) -> EngineBackend:
        """The backend under test."""
        pytest.fail("give the class a fixture `backend` that returns your EngineBackend")

    @pytest.fixture
    def engine(self, backend: EngineBackend, _engines_of_class: dict[str, Engine]) -> Engine:
        """A loaded engine, empty and idle; the tests of a class share it."""
        engine = _engines_of_class.get(backend.name)
        if engine is None:
            engine = _engines_of_class[backend.name] = self.load(backend)
        engine.clear_cancel()
        engine.clear()
        if engine.info.adapters:
            engine.set_adapters(())
        return engine

    @pytest.fixture
    def nan_engine(self, backend: EngineBackend) -> Engine:
        """A new engine that computes NaN, for example because its model has weights that are NaN or too large."""
        pytest.skip(
            f"give the class a fixture `nan_engine`: an engine of {backend.name} that computes NaN"
        )

    def load(self, backend: EngineBackend) -> Engine:
        """A new engine with a context of 256 tokens."""
        return backend.load(open_model(self.model), ModelParams(n_ctx=256, n_batch=32, n_threads=1))

    def prompt(self, engine: Engine) -> list[int]:
        """:attr:`text` as tokens."""
        return engine.tokenize(self.text, add_special=True, parse_special=True)

    def generate(self, engine: KvSequence, n: int, params: SamplingParams = GREEDY) -> list[int]:
        """Draw ``n`` tokens. The last one stays out of the KV cache."""
        engine.set_sampler(params, 1, [])
        tokens = [engine.sample()]
        while len(tokens) < n:
            following = engine.step(tokens[-1])
            assert following is not None, "step() gave None, but nothing was cancelled"
            tokens.append(following)
        return tokens

    def read(self, engine: KvSequence, tokens: Sequence[int]) -> None:
        """Decode into an empty cache."""
        engine.clear()
        assert engine.decode(tokens) == len(tokens)

    def is_at_rest(self, engine: Engine) -> bool:
        """Whether nothing was cancelled."""
        return not engine.cancelled

    def needs(self, engine: Engine, capability: Capability) -> None:
        """Skip a test that needs a capability."""
        if capability not in engine.capabilities:
            name = (capability.name or "").lower()
            pytest.skip(f"the {engine.backend} backend lacks {name}")
