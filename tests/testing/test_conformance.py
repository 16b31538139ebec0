"""The engine contract, held by every backend and by the fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import EngineBackend, EngineError, LlamaBridge, MemoryKind, registry
from llama_bridge.engine import Engine
from llama_bridge.testing import BackendConformance, FakeAnswer, FakeBackend, babble
from tests.ledger import engine_of
from tests.making import model_with_nan


class TestInstalledBackend(BackendConformance):
    @pytest.fixture
    def backend(self, llama_backend: str) -> EngineBackend:
        (backend,) = registry.candidates(llama_backend)
        assert isinstance(backend, EngineBackend)
        return backend

    @pytest.fixture
    def nan_engine(self, backend: EngineBackend, tmp_path: Path) -> Iterator[Engine]:
        self.model = str(model_with_nan(tmp_path / "nan.gguf", "all"))
        engine = self.load(backend)
        yield engine
        engine.close()


@pytest.mark.requires_capability("tokens")
def test_one_logit_that_is_nan_is_an_error_too(llama_backend: str, tmp_path: Path) -> None:
    """Of a model with one damaged row. Natively it is looked for where an answer begins, not at each token."""
    model = model_with_nan(tmp_path / "nan.gguf", "one")
    with LlamaBridge(model, backend=llama_backend, n_ctx=256) as llama:
        for _ in range(2):
            with pytest.raises(EngineError, match="NaN"):
                llama.generate("Hello there", chat=False, max_tokens=4)
            assert engine_of(llama).length == 0
        engine_of(llama).decode([1, 2])
        with pytest.raises(EngineError, match="NaN"):
            engine_of(llama).logits()


class TestFakeBackend(BackendConformance):
    @pytest.fixture
    def backend(self) -> EngineBackend:
        return FakeBackend(babble)

    @pytest.fixture
    def nan_engine(self) -> Engine:
        return self.load(
            FakeBackend(FakeAnswer(fails_after=0, error=EngineError("the fake computed NaN")))
        )


class TestFakeBackendThatCannotRewind(BackendConformance):
    @pytest.fixture
    def backend(self) -> EngineBackend:
        return FakeBackend(babble, memory=MemoryKind.RECURRENT, lacks="session_persistence")
