"""Several sequences on every kind of memory that llama.cpp has, over small random models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llama_bridge import (
    EngineBackend,
    EngineError,
    MemoryKind,
    ModelParams,
    SamplingParams,
    registry,
)
from llama_bridge.engine import Engine
from llama_bridge.models.source import open_model
from llama_bridge.testing.conformance_parallel import ParallelTests
from tests.ledger import assert_likeliest
from tests.making import model_with_nan
from tools.random_model import write_model


def backend_of(name: str) -> EngineBackend:
    (backend,) = registry.candidates(name)
    assert isinstance(backend, EngineBackend)
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


class OfKind(ParallelTests):
    """The tests for one kind of memory; a class for each, because the tests of a class share an engine."""

    architecture: str
    kind: MemoryKind

    @pytest.fixture
    def backend(self, folder: Path, llama_backend: str) -> EngineBackend:
        file = folder / f"{self.architecture}.gguf"
        if not file.exists():
            write_model(file, architecture=self.architecture, seed=3)
        self.model = str(file)
        return backend_of(llama_backend)

    def assert_agree(
        self, engine: Engine, prompt: Sequence[int], alone: Sequence[int], answer: Sequence[int]
    ) -> None:
        if list(alone) != list(answer):  # two logits are often as good as equal
            assert_likeliest(engine, prompt, answer)

    def test_the_memory_is_of_this_kind(self, several: Engine) -> None:
        assert several.info.memory is self.kind


class TestDense(OfKind):
    architecture, kind = "qwen2", MemoryKind.DENSE


class TestSlidingWindow(OfKind):
    architecture, kind = "gemma3", MemoryKind.SWA


class TestRecurrent(OfKind):
    architecture, kind = "mamba", MemoryKind.RECURRENT


class TestHybrid(OfKind):
    architecture, kind = "lfm2", MemoryKind.HYBRID


def test_nan_of_one_sequence_empties_all(llama_backend: str, tmp_path: Path) -> None:
    """What is masked may still be read, and NaN times zero is NaN: the cells of the others are not to be trusted either."""
    engine = backend_of(llama_backend).load(
        open_model(str(model_with_nan(tmp_path / "nan.gguf", "all"))),
        ModelParams(n_ctx=256, n_threads=1, n_parallel=3),
    )
    try:
        first, second, third = engine.sequences
        first.decode([1, 2, 3])
        third.set_sampler(SamplingParams(temperature=0), 1, [])
        with pytest.raises(EngineError, match="NaN"):
            third.step(7)
        assert [sequence.length for sequence in engine.sequences] == [0, 0, 0]
        assert engine.decode_together([(first, [4]), (second, [5, 6]), (third, [4])])
        with pytest.raises(EngineError, match="NaN"):
            third.sample()
        assert [sequence.length for sequence in engine.sequences] == [0, 0, 0]
        for sequence in engine.sequences:
            with pytest.raises(EngineError, match="there are no logits"):
                sequence.logits()
            assert sequence.decode([1, 2, 3]) == 3
    finally:
        engine.close()


@pytest.mark.parametrize("n_parallel", [2, 3, 7, 64])
@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "mamba", "lfm2"])
def test_any_number_of_sequences_loads_and_computes(
    llama_backend: str, tmp_path: Path, architecture: str, n_parallel: int
) -> None:
    write_model(tmp_path / "m.gguf", architecture=architecture, seed=3)
    params = ModelParams(n_ctx=256, n_batch=64, n_threads=1, n_parallel=n_parallel)
    engine = backend_of(llama_backend).load(open_model(str(tmp_path / "m.gguf")), params)
    try:
        room = engine.info.n_batch
        sequences = engine.sequences[:room]
        assert len(engine.sequences) == n_parallel
        assert engine.decode_together([(sequence, [1]) for sequence in sequences])
        assert engine.decode_together([(sequence, [2]) for sequence in reversed(sequences)])
        first = sequences[0].logits().tolist()
        assert sequences[-1].logits().tolist() == pytest.approx(first, abs=1e-3)
        assert [sequence.length for sequence in sequences] == [2] * len(sequences)
    finally:
        engine.close()
