"""The suite with ``--llama-backend remote``: a server for it, and what it is skipped for.

What the server lacks is found out where a test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from llama_bridge import FallbackWarning, InvalidInput, LlamaBridge, UnsupportedCapability

__all__ = ["not_on_a_server", "pytest_fixture_setup", "pytest_runtest_call", "served_demo"]


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

    with LlamaBridge("demo", n_parallel=4, n_ctx=4096) as llama, serving(app(llama)) as address:
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
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """As :func:`pytest_runtest_call`, for what a fixture asks for."""
    option = str(request.config.getoption("--llama-backend") or "")
    return (yield from _gated("remote" in option.split(",")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that asks for what the server lacks is skipped with the reason."""
    return (yield from _gated(is_remote(item)))


def _gated(on_a_server: bool) -> Generator[None, object, object]:
    try:
        return (yield)
    except (UnsupportedCapability, InvalidInput, FallbackWarning) as error:
        why = _lacks(error) if on_a_server else ""
        if why:
            pytest.skip(why)
        raise


def _lacks(error: Exception) -> str:
    """What the server lacks; empty for any other error."""
    match error:
        case UnsupportedCapability() if error.backend == "remote":
            return str(error)
        case InvalidInput() if "takes the name of a model on the server" in str(error):
            return "not on a server: it loads a model of its own"
        case InvalidInput() if "chats are apart" in str(error):
            return "not on this server: its chats and its raw texts are apart"
        case FallbackWarning() if "with the server's settings" in str(error):
            return f"not on a server: {error}"
        case _:
            return ""
