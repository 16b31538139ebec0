"""What the tests of the remote backend share: each kind of server, started once."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

collect_ignore_glob = ["test_*.py"] if sys.platform == "emscripten" else []

if sys.platform != "emscripten":
    from llama_bridge import LlamaBridge, SamplingParams
    from llama_bridge.serve import app
    from tests.serve.serving import serving

    from .servers import LlamaServer, llama_server

    GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=64)

    @pytest.fixture(autouse=True)
    def no_server_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
        """Tests name their servers."""
        for name in ("LLAMA_BRIDGE_URL", "LLAMA_BRIDGE_API_KEY", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    @pytest.fixture(scope="session")
    def bridge_url() -> Iterator[str]:
        """``llama-bridge serve`` with the demo model, on the best backend that is here."""
        with LlamaBridge("demo", n_parallel=4) as llama, serving(app(llama)) as address:
            yield f"http://127.0.0.1:{address.port}"

    @pytest.fixture(scope="session")
    def forgetful_url() -> Iterator[str]:
        """The same on wasm, which keeps no sessions."""
        with LlamaBridge("demo", backend="wasm", n_parallel=2) as llama, serving(app(llama)) as at:
            yield f"http://127.0.0.1:{at.port}"

    @pytest.fixture(scope="session")
    def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
        """llama-server with the demo model and a folder for slots."""
        pytest.importorskip("xllamacpp", reason="needs xllamacpp, llama-server as a package")
        with llama_server(tmp_path_factory.mktemp("slots")) as server:
            yield server
