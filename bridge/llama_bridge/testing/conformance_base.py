"""What the conformance tests stand on: an engine to look at, and what is done to it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ..engine import Engine
from ..local.engine_backend import EngineBackend
from ..models.source import DEMO, open_model
from ..params import ModelParams, SamplingParams

__all__ = ["GREEDY", "EngineTests"]

GREEDY = SamplingParams(temperature=0)


class EngineTests:
    """Fixtures and helpers of :class:`~llama_bridge.testing.BackendConformance`.

    A second fixture may be given, ``nan_engine``.

    Attributes:
        model: what is loaded; a chat model with a context of at least 256 tokens.
        text: what it is given to read.
    """

    model: str = DEMO
    text: str = "My name is Ada. What is a KV cache? Grüße, 世界!"

    @pytest.fixture
    def backend(self) -> EngineBackend:
        """The backend under test."""
        pytest.fail("give the class a fixture `backend` that returns your EngineBackend")

    @pytest.fixture
    def engine(self, backend: EngineBackend, _engines_of_class: dict[str, Engine]) -> Engine:
        """A loaded engine, empty and at rest; the tests of a class share it."""
        engine = _engines_of_class.get(backend.name)
        if engine is None:
            engine = _engines_of_class[backend.name] = self.load(backend)
        engine.clear_cancel()
        engine.clear()
        return engine

    @pytest.fixture
    def nan_engine(self, backend: EngineBackend) -> Engine:
        """An engine, with nothing decoded, that computes NaN: of a model with weights that are NaN, say."""
        pytest.skip(
            f"give the class a fixture `nan_engine`: a model that makes {backend.name} compute NaN"
        )

    def load(self, backend: EngineBackend) -> Engine:
        """A new engine with a context of 256 tokens."""
        return backend.load(open_model(self.model), ModelParams(n_ctx=256, n_batch=32, n_threads=1))

    def prompt(self, engine: Engine) -> list[int]:
        """:attr:`text` as tokens."""
        return engine.tokenize(self.text, add_special=True, parse_special=True)

    def generate(self, engine: Engine, n: int, params: SamplingParams = GREEDY) -> list[int]:
        """Draw ``n`` tokens, the last of which stays out of the KV cache."""
        engine.set_sampler(params, 1, [])
        tokens = [engine.sample()]
        while len(tokens) < n:
            following = engine.step(tokens[-1])
            assert following is not None, "step() gave None, though nobody had cancelled"
            tokens.append(following)
        return tokens

    def read(self, engine: Engine, tokens: Sequence[int]) -> None:
        """Decode from nothing."""
        engine.clear()
        assert engine.decode(tokens) == len(tokens)

    def is_at_rest(self, engine: Engine) -> bool:
        """Whether nobody has cancelled."""
        return not engine.cancelled
