"""The suite with ``--llama-backend remote``: a server for it, and what it is skipped for.

What the server lacks is found out where a test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from llama_bridge import LlamaBridge, UnsupportedCapability

__all__ = ["not_on_a_server", "pytest_runtest_call", "served_demo"]


def is_remote(item: pytest.Item) -> bool:
    """Whether a test runs on a server because the whole suite does."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("llama_backend") == "remote"


@pytest.fixture(scope="session", autouse=True)
def served_demo(pytestconfig: pytest.Config) -> Iterator[None]:
    """With that option and no ``LLAMA_BRIDGE_URL``, ``llama-bridge serve`` with the demo model, once for all tests."""
    option = str(pytestconfig.getoption("--llama-backend") or "")
    if "remote" not in option.split(",") or os.environ.get("LLAMA_BRIDGE_URL"):
        yield
        return
    from llama_bridge.serve import app  # an extra: only this choice needs the server
    from tests.serve.serving import serving

    with LlamaBridge("demo", n_parallel=4) as llama, serving(app(llama)) as address:
        os.environ["LLAMA_BRIDGE_URL"] = f"http://127.0.0.1:{address.port}"
        yield
        del os.environ["LLAMA_BRIDGE_URL"]


@pytest.fixture(autouse=True)
def not_on_a_server(request: pytest.FixtureRequest) -> None:
    """Tests marked ``not_remote`` say why."""
    marker = request.node.get_closest_marker("not_remote")
    if marker is not None and is_remote(request.node):
        pytest.skip(f"not on a server: {marker.args[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that asks for what the server lacks is skipped with the reason."""
    try:
        return (yield)
    except UnsupportedCapability as error:
        if is_remote(item) and error.backend == "remote":
            pytest.skip(str(error))
        raise
