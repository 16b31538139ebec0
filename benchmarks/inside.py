"""What runs inside a bridge: benchmarks compare its calls with those of its engine alone."""

from __future__ import annotations

from llama_bridge import Engine, LlamaBridge
from llama_bridge.local.active import Active
from llama_bridge.local.local_runtime import LocalRuntime

__all__ = ["active_of", "engine_of"]


def active_of(llama: LlamaBridge) -> Active:
    """The conversation that has the KV cache."""
    runtime = llama._shared.alive()
    assert isinstance(runtime, LocalRuntime)
    return runtime._pool.active


def engine_of(llama: LlamaBridge) -> Engine:
    """What runs it, token by token."""
    return active_of(llama).engine
