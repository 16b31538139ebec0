"""The runtime contract, held by every backend, by the fake, and by a runtime that knows only text."""

from __future__ import annotations

import pytest

from llama_bridge import Backend, MemoryKind, registry
from llama_bridge.testing import FakeBackend, RuntimeConformance, babble
from tests.bridge.text_runtime import TextBackend


class TestInstalledBackend(RuntimeConformance):
    @pytest.fixture
    def backend(self, llama_backend: str) -> Backend:
        return registry.candidates(llama_backend)[0]


class TestFakeBackend(RuntimeConformance):
    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend(babble)


class TestFakeBackendThatCannotRewind(RuntimeConformance):
    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend(babble, memory=MemoryKind.RECURRENT, lacks="session_persistence")


class TestTextBackend(RuntimeConformance):
    @pytest.fixture
    def backend(self) -> Backend:
        return TextBackend()
