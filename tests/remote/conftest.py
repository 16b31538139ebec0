"""What the tests of the remote backend share: each kind of server, started once.

A page starts no servers. Those that whoever opened it has started are named by ``LLAMA_BRIDGE_SERVERS``, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest

collect_ignore_glob: list[str] = []

if sys.platform == "emscripten":
    from .servers import LlamaServer

    # Those of the other files start servers in threads.
    collect_ignore_glob = ["test_[!ar]*.py", "test_recorded.py"]

    def started(name: str) -> str:
        servers: dict[str, str] = json.loads(os.environ.get("LLAMA_BRIDGE_SERVERS", "{}"))
        if name not in servers:
            pytest.skip("needs servers")
        return servers[name]

    @pytest.fixture(scope="session")
    def bridge_url() -> str:
        return started("bridge")

    @pytest.fixture(scope="session")
    def forgetful_url() -> str:
        return started("forgetful")

    @pytest.fixture(scope="session")
    def llama_cpp() -> LlamaServer:
        return LlamaServer(int(started("llama_cpp").rpartition(":")[2]))


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
