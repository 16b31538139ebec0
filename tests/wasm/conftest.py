"""Fixtures of the wasm backend's own tests: the real llama.wasm and real models, nothing imitated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams
from llama_bridge_wasm import BACKEND, artifact
from llama_bridge_wasm.abi import LOAD_PARAMS, MODEL_PATH, Guest
from llama_bridge_wasm.engine.wasm_engine import WasmEngine
from llama_bridge_wasm.hosts.wasi import GuestFile

MakeGuest = Callable[..., Guest]
MEMORY_LIMIT = 1 << 30
_available = BACKEND.probe()


@pytest.fixture(scope="session")
def wasm() -> Path:
    """The built llama.wasm."""
    if not _available.ok:
        pytest.skip(f"wasm: {_available.reason} ({_available.hint})")
    return artifact.DEFAULT_PATH


@pytest.fixture(scope="session")
def demo() -> ModelFile:
    return open_model("demo")


@pytest.fixture(scope="module")
def engine(wasm: Path, demo: ModelFile) -> Iterator[WasmEngine]:
    """The demo model, loaded once per file; each test begins with an empty KV cache."""
    engine = BACKEND.load(demo, ModelParams(n_ctx=512))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def guest(wasm: Path, demo: ModelFile) -> Iterator[Guest]:
    """An instance without a model, one per file."""
    guest = new_guest(wasm, demo.path)
    yield guest
    guest.close()


@pytest.fixture(autouse=True)
def _empty_cache(request: pytest.FixtureRequest) -> None:
    if "engine" in request.fixturenames:
        engine: WasmEngine = request.getfixturevalue("engine")
        engine.clear_cancel()
        engine.clear()


@pytest.fixture
def make_guest(wasm: Path, demo: ModelFile) -> Iterator[MakeGuest]:
    """Instances without a model; closed at the end."""
    guests: list[Guest] = []

    def make(file: Path = demo.path, memory_limit: int = MEMORY_LIMIT) -> Guest:
        guests.append(new_guest(wasm, file, memory_limit))
        return guests[-1]

    yield make
    for guest in guests:
        guest.close()


def new_guest(
    wasm: Path, file: Path | GuestFile, memory_limit: int = MEMORY_LIMIT, *, shared: bool = True
) -> Guest:
    """An instance in the host of this platform; in a page that may not share memory, on memory of its own."""
    file = GuestFile.at(file) if isinstance(file, Path) else file
    if sys.platform == "emscripten":
        from llama_bridge_wasm.hosts.browser import threads as page_threads
        from llama_bridge_wasm.hosts.browser.guest import BrowserGuest

        shared = shared and page_threads.available(2) > 1
        return BrowserGuest(wasm, file, memory_limit, shared=shared)
    from llama_bridge_wasm.hosts.wasmtime.guest import WasmtimeGuest

    return WasmtimeGuest(wasm, file, memory_limit, shared=shared)


def random_model(**shape: Any) -> Path:
    """A model of this shape, written once."""
    from tools.random_model import cached_model  # numpy: not in a page

    return cached_model(**shape)


def put(guest: Guest, data: bytes) -> int:
    """A copy of ``data`` in guest memory that stays there."""
    pointer = guest.call("lb_alloc", max(1, len(data))) & 0xFFFFFFFF
    assert pointer
    guest.write(pointer, data)
    return pointer


def load(guest: Guest, path: str = MODEL_PATH, n_ctx: int = 256) -> int:
    """Call lb_load as a host does; its status."""
    params = put(guest, LOAD_PARAMS.pack(n_ctx, 64, 64, 1, 1, 1, 1, 1))
    return guest.call("lb_load", put(guest, path.encode() + b"\0"), params)


def last_error(guest: Guest) -> str:
    pointer = guest.call("lb_last_error") & 0xFFFFFFFF
    text = guest.read(pointer, min(200, guest.memory_size - pointer))
    return text.split(b"\0")[0].decode()
