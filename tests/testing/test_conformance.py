"""The engine contract, held by every backend and by the fake."""

from __future__ import annotations

import pytest

from llama_bridge import EngineBackend, MemoryKind, registry
from llama_bridge.testing import BackendConformance, FakeBackend, babble


class TestInstalledBackend(BackendConformance):
    @pytest.fixture
    def backend(self, llama_backend: str) -> EngineBackend:
        (backend,) = registry.candidates(llama_backend)
        assert isinstance(backend, EngineBackend)
        return backend


class TestFakeBackend(BackendConformance):
    @pytest.fixture
    def backend(self) -> EngineBackend:
        return FakeBackend(babble)


class TestFakeBackendThatCannotRewind(BackendConformance):
    @pytest.fixture
    def backend(self) -> EngineBackend:
        return FakeBackend(babble, memory=MemoryKind.RECURRENT, lacks="session_persistence")
