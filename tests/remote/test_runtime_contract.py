"""The runtime contract, held over each kind of server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llama_bridge import Backend, Capability, Grammar, InvalidInput, Runtime
from llama_bridge.testing import RuntimeConformance
from llama_bridge.testing.runtime_conformance import read
from llama_bridge_remote import RemoteBackend

from .servers import LlamaServer


class _Remote(RuntimeConformance):
    @pytest.fixture
    def backend(self, url: str) -> Backend:
        self.model = url
        return RemoteBackend(timeout=60)


class TestOurServer(_Remote):
    @pytest.fixture
    def url(self, bridge_url: str) -> str:
        return bridge_url


class TestOurServerWithoutSessions(_Remote):
    @pytest.fixture
    def url(self, forgetful_url: str) -> str:
        return forgetful_url


class TestLlamaServer(_Remote):
    @pytest.fixture
    def url(self, llama_cpp: LlamaServer) -> str:
        return llama_cpp.url


class TestAnyServer(_Remote):
    """llama-server again, taken for one that has nothing but OpenAI's interface."""

    @pytest.fixture
    def url(self, llama_cpp: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr("llama_bridge_remote.backend._llama_server", lambda *_: None)
        return llama_cpp.url

    def test_an_answer_fits_its_grammar_and_ends_with_it(self, runtime: Runtime) -> None:
        """Of a shape these servers take the schema alone."""
        assert Capability.JSON_SCHEMA in runtime.capabilities
        request = self.request(runtime)
        grammar = Grammar('root ::= "yes"')
        with pytest.raises(InvalidInput, match=r"grammar: .* takes JSON schemas alone"):
            runtime.answer(replace(request, grammar=grammar))
        schema = {
            "type": "object",
            "properties": {"sure": {"type": "boolean"}},
            "required": ["sure"],
        }
        _, generation = read(runtime.answer(replace(request, grammar=grammar, schema=schema)))
        assert generation.text.startswith("{")
