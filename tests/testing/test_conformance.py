"""The engine contract, held by every backend and by the fake."""

from __future__ import annotations

import pytest

from llama_bridge import Backend, MemoryKind, registry
from llama_bridge.testing import BackendConformance, FakeBackend, babble


class TestInstalledBackend(BackendConformance):
    @pytest.fixture
    def backend(self, llama_backend: str) -> Backend:
        return registry.candidates(llama_backend)[0]


class TestFakeBackend(BackendConformance):
    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend(babble)


class TestFakeBackendThatCannotRewind(BackendConformance):
    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend(babble, memory=MemoryKind.RECURRENT, lacks="session_persistence")
