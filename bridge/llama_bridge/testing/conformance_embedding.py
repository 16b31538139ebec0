"""Embeddings, for engines that have them: what they are equal to, and that they touch nothing else."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ..capabilities import Capability
from ..engine import Engine
from ..errors import ClosedError, ContextOverflow, InvalidInput, UnsupportedCapability
from ..local.engine_backend import EngineBackend
from ..models.source import open_model
from ..params import ModelParams
from .conformance_base import EngineTests

__all__ = ["EmbeddingTests"]

_TEXTS = ("My name is Ada.", "x", "What is a KV cache? " * 9, "Grüße, 世界!", "My name is Ada.")


class EmbeddingTests(EngineTests):
    """Part of :class:`~llama_bridge.testing.BackendConformance`.

    Attributes:
        difference: how much a number may differ between a text alone and in a batch, in vectors of length 1. Kernels round
            differently for one row and for many.
    """

    difference: float = 1e-3

    @pytest.fixture
    def embedding_engine(self, backend: EngineBackend) -> Iterator[Engine]:
        """An engine of the same model that pools by the mean."""
        engine = self._load_with(backend, ModelParams(n_ctx=256, n_batch=64, pooling="mean"))
        yield engine
        engine.close()

    def _load_with(self, backend: EngineBackend, params: ModelParams) -> Engine:
        if Capability.EMBEDDINGS not in backend.capabilities:
            pytest.skip(f"the {backend.name} backend lacks embeddings")
        return backend.load(open_model(self.model), params)

    def test_each_text_has_a_vector(self, embedding_engine: Engine) -> None:
        engine = embedding_engine
        assert Capability.EMBEDDINGS in engine.capabilities
        assert engine.info.pooling == "mean"
        found = engine.embed(self._sequences(engine))
        assert found is not None
        assert (found.format, found.shape) == ("f", (len(_TEXTS), engine.info.n_embd))
        rows = self._rows(found)
        assert rows[0] == pytest.approx(rows[4], abs=self.difference)
        assert max(abs(a - b) for a, b in zip(rows[0], rows[1], strict=True)) > 0.01
        assert rows[0] != rows[3]

    def test_a_batch_is_as_one_at_a_time(self, embedding_engine: Engine) -> None:
        sequences = self._sequences(embedding_engine) * 5
        together = embedding_engine.embed(sequences)
        assert together is not None
        for sequence, row in zip(sequences[:5], self._rows(together)[-5:], strict=True):
            alone = embedding_engine.embed([sequence])
            assert alone is not None
            assert self._rows(alone)[0] == pytest.approx(row, abs=self.difference)

    def test_the_conversation_stays_as_it_is(self, embedding_engine: Engine) -> None:
        engine, tokens = embedding_engine, self.prompt(embedding_engine)
        self.read(engine, tokens)
        expected = self.generate(engine, 8)
        self.read(engine, tokens)
        logits = engine.logits().tolist()
        engine.embed(self._sequences(engine))
        assert engine.length == len(tokens)
        assert engine.logits().tolist() == logits
        assert self.generate(engine, 8) == expected

    def test_one_token_and_as_many_as_fit_have_vectors(self, embedding_engine: Engine) -> None:
        engine, tokens = embedding_engine, self.prompt(embedding_engine)
        longest = (tokens * engine.info.n_ctx)[: engine.info.n_ctx]
        found = engine.embed([longest, tokens[:1]])
        assert found is not None
        for row in self._rows(found):
            assert math.hypot(*row) == pytest.approx(1)

    def test_what_cannot_be_embedded_is_named(self, embedding_engine: Engine) -> None:
        engine, tokens = embedding_engine, self.prompt(embedding_engine)
        too_long = (tokens * engine.info.n_ctx)[: engine.info.n_ctx + 1]
        with pytest.raises(ContextOverflow) as long:
            engine.embed([tokens, too_long])
        assert long.value.needed == len(too_long)
        wrong: list[Any] = [
            None, 5, "text", b"text", [], [[]], [tokens, []], [tokens, None], [[engine.info.n_vocab]],
            [[-1]], [["1"]], [[1.5]], [tokens, b"text"], [2**40], [[2**40]], {},
        ]  # fmt: skip
        for given in wrong:
            with pytest.raises(InvalidInput, match="sequences"):
                pytest.fail(f"{given!r} gave {engine.embed(given)!r}")
        assert engine.embed([tokens]) is not None

    def test_a_cancel_ends_it_without_a_result(self, embedding_engine: Engine) -> None:
        engine = embedding_engine
        engine.cancel()
        assert engine.embed(self._sequences(engine)) is None
        engine.clear_cancel()
        assert engine.embed(self._sequences(engine)) is not None
        timer = threading.Timer(0.05, engine.cancel)
        timer.start()
        for _ in range(100_000):
            if engine.embed(self._sequences(engine)) is None:
                break
        else:
            pytest.fail("the cancel had no effect")
        timer.join()

    def test_without_pooling_nothing_is_embedded(self, backend: EngineBackend) -> None:
        engine = self._load_with(backend, ModelParams(n_ctx=256, pooling="none"))
        try:
            assert not engine.capabilities & (Capability.EMBEDDINGS | Capability.RERANK)
            with pytest.raises(UnsupportedCapability):
                engine.embed([self.prompt(engine)])
        finally:
            engine.close()

    def test_a_closed_engine_embeds_nothing(self, backend: EngineBackend) -> None:
        engine = self._load_with(backend, ModelParams(n_ctx=256, pooling="mean"))
        tokens = self.prompt(engine)
        engine.embed([tokens])
        engine.close()
        with pytest.raises(ClosedError):
            engine.embed([tokens])
        engine.close()

    def _sequences(self, engine: Engine) -> list[list[int]]:
        return [
            engine.tokenize(text, add_special=True, parse_special=False)[: engine.info.n_ctx]
            for text in _TEXTS
        ]

    def _rows(self, found: memoryview[float]) -> Sequence[Sequence[float]]:
        """Each vector, scaled to the length 1."""
        values = found.cast("B").cast("f").tolist()
        width = found.shape[1] if found.shape else 0
        rows = [values[i : i + width] for i in range(0, len(values), width)]
        return [[value / math.hypot(*row) for value in row] for row in rows]
