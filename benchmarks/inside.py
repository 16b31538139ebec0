"""The inside of a bridge, for benchmarks that compare it with its engine alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from llama_bridge import Engine, LlamaBridge
from llama_bridge.local.active import Active
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.request import Request
from llama_bridge_remote.answer import Question
from llama_bridge_remote.remote_runtime import Kept, RemoteRuntime

__all__ = ["active_of", "engine_of", "questions_of"]


def active_of(llama: LlamaBridge) -> Active:
    """The conversation that is in the KV cache."""
    runtime = llama._shared.alive()
    assert isinstance(runtime, LocalRuntime)
    return runtime._pool.active


def engine_of(llama: LlamaBridge) -> Engine:
    """The engine that runs it."""
    return active_of(llama).engine


@contextmanager
def questions_of(llama: LlamaBridge) -> Generator[list[tuple[str, dict[str, Any]]]]:
    """The path and the body of each question that it sends to a server meanwhile."""
    runtime = llama._shared.alive()
    assert isinstance(runtime, RemoteRuntime)
    heard: list[tuple[str, dict[str, Any]]] = []
    question = runtime.question

    def hearing(request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        asked = question(request, kept, headers)
        heard.append((asked.path, dict(asked.body)))
        return asked

    runtime.question = hearing  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        del runtime.question
