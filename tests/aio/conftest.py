"""Where the tests of tasks run: on both event loops, and in slices as in a page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import pytest

from llama_bridge.aio import bridge
from llama_bridge.aio.slices import Slices

T = TypeVar("T")

collect_ignore_glob = ["test_*.py"] if sys.platform == "emscripten" else []
"""In a page the event loop runs already: tests/browser/test_tasks.py."""


class Loop(Protocol):
    """Runs a test's coroutine to its end."""

    def __call__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


def on_asyncio(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


def on_trio(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    import trio

    return trio.run(work)


@pytest.fixture(params=["asyncio", "trio"])
def threads(request: pytest.FixtureRequest) -> Loop:
    """Each event loop."""
    return on_trio if request.param == "trio" else on_asyncio


@pytest.fixture(params=["asyncio", "trio", "slices"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Each event loop, and asyncio as a page has it, without threads."""
    if request.param == "slices":
        monkeypatch.setattr(bridge, "_ways", Slices)
    return on_trio if request.param == "trio" else on_asyncio


@pytest.fixture(params=["threads", "slices"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Both ways to wait, on asyncio."""
    if request.param == "slices":
        monkeypatch.setattr(bridge, "_ways", Slices)
    return on_asyncio
