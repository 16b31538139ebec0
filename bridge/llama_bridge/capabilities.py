"""What a loaded model on a backend can do, as flags to look at before work starts."""

from __future__ import annotations

import enum

__all__ = ["Capability", "capability_names"]


class Capability(enum.Flag):
    """What a model on a backend can do; not every backend and not every model can do everything."""

    GENERATE = enum.auto()
    """Fresh text generation."""
    STREAM = enum.auto()
    """Text arrives while it is generated."""
    CANCEL = enum.auto()
    """``cancel()`` ends a running call, in prefill and in decode."""
    CHAT_TEMPLATE = enum.auto()
    """The model has a chat template, so a prompt is what the user says in a turn."""
    TOKENS = enum.auto()
    """Text becomes token ids and back: ``tokenize``, ``detokenize``, ``info``, a session's ``tokens``."""
    KV_CONTINUATION = enum.auto()
    """``generate_continue`` reuses the KV cache. Without this flag it runs fresh and says so."""
    PREFIX_CACHE = enum.auto()
    """A fresh prompt that begins like the KV cache evaluates only the rest. Needs memory that can rewind."""
    SESSION_PERSISTENCE = enum.auto()
    """``session_save`` and ``session_load``."""
    SESSION_TOOLS = enum.auto()
    """``session_fork``, ``session_rewind``, ``regenerate``, and several named sessions."""
    THREADS = enum.auto()
    """Several threads can compute."""
    SANDBOX = enum.auto()
    """The engine sees no file except the model and no network, and its memory is bounded."""
    GPU_OFFLOAD = enum.auto()
    """Layers can run on a GPU."""


def capability_names(capabilities: Capability) -> list[str]:
    """The lower-case names of the set flags, in the order of their definition."""
    return [flag.name.lower() for flag in Capability if flag in capabilities and flag.name]
