"""The inside of a bridge, for benchmarks that compare it with its engine alone."""

from __future__ import annotations

from llama_bridge import Engine, LlamaBridge
from llama_bridge.local.active import Active
from llama_bridge.local.local_runtime import LocalRuntime

__all__ = ["active_of", "engine_of"]


def active_of(llama: LlamaBridge) -> Active:
    """The conversation that is in the KV cache."""
    runtime = llama._shared.alive()
    assert isinstance(runtime, LocalRuntime)
    return runtime._pool.active


def engine_of(llama: LlamaBridge) -> Engine:
    """The engine that runs it."""
    return active_of(llama).engine
