"""Room for llama.cpp's plan of a computation. Where it gets no memory for one it aborts, which ends the guest."""

from __future__ import annotations

from collections.abc import Sequence

from llama_bridge.models.adapter import Adapter
from llama_bridge.models.source import ModelFile

from ..abi import Guest
from .marshal import as_pointer

__all__ = ["BEFORE_A_PLAN", "bytes_of_plan", "has_room"]

_LEAST_NODES, _NODES_PER_TENSOR, _NODES_PER_PAIR = 1024, 8, 6
"""How many nodes llama.cpp plans for: ``llama_context::graph_max_nodes``."""
_BYTES_PER_NODE = 17 << 10
"""Of ``ggml_backend_sched_new``, which has room for thirty inputs of each node, twice. Measured: 16.3 KiB."""
BEFORE_A_PLAN = 8 << 20
"""What a new context takes before its plan. Measured: 7.5 MiB."""


def bytes_of_plan(model: ModelFile, adapters: Sequence[Adapter]) -> int:
    """What a plan takes for a model with these adapters."""
    pairs = sum(len(adapter.file.header.tensors) for adapter in adapters) // 2
    nodes = (
        max(_LEAST_NODES, _NODES_PER_TENSOR * len(model.header.tensors)) + _NODES_PER_PAIR * pairs
    )
    return nodes * _BYTES_PER_NODE


def has_room(guest: Guest, n_bytes: int) -> bool:
    """Whether the guest has so much memory in one piece; with the lock held. ``lb_alloc`` takes 32 bits, and no guest has more."""
    room = 0 if n_bytes >= 1 << 32 else as_pointer(guest.call("lb_alloc", n_bytes))
    guest.call("lb_free", room)
    return room != 0
