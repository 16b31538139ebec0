"""What the tests of the server share. A page serves nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

collect_ignore_glob = ["test_*.py"] if sys.platform == "emscripten" else []

if sys.platform != "emscripten":
    from llama_bridge import LlamaBridge, SamplingParams
    from llama_bridge.serve import app

    from .serving import Address, serving

    GREEDY = SamplingParams(max_tokens=None, temperature=0)

    @pytest.fixture(scope="module")
    def demo(llama_backend: str) -> Iterator[LlamaBridge]:
        """The demo model, one for all tests of a module on a backend."""
        with LlamaBridge("demo", backend=llama_backend, sampling=GREEDY) as llama:
            yield llama

    @pytest.fixture(scope="module")
    def server(demo: LlamaBridge) -> Iterator[Address]:
        """Serves it."""
        with serving(app(demo)) as address:
            yield address
