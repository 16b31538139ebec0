"""What a loaded model on a backend can do, as flags that are read before work starts."""

from __future__ import annotations

import enum

__all__ = ["Capability", "capability_names"]


class Capability(enum.Flag):
    """One flag for each thing that not every backend, or not every model, can do."""

    GENERATE = enum.auto()
    """Fresh text generation."""
    STREAM = enum.auto()
    """Text arrives while it is generated."""
    CANCEL = enum.auto()
    """``cancel()`` ends a running call, in prefill and in decode."""
    CHAT_TEMPLATE = enum.auto()
    """The model carries a chat template, so that a prompt is a user turn."""
    TOKENS = enum.auto()
    """Text becomes token ids and back: ``tokenize``, ``detokenize``, ``info``, a session's ``tokens``."""
    KV_CONTINUATION = enum.auto()
    """``generate_continue`` reuses the KV cache; without it, it runs fresh and says so."""
    PREFIX_CACHE = enum.auto()
    """A fresh prompt that begins like what the KV cache holds evaluates only the rest; needs memory that rewinds."""
    SESSION_PERSISTENCE = enum.auto()
    """``session_save`` and ``session_load``."""
    SESSION_TOOLS = enum.auto()
    """``session_fork``, ``session_rewind``, ``regenerate``, and several named sessions."""
    THREADS = enum.auto()
    """More than one thread computes."""
    SANDBOX = enum.auto()
    """The engine sees no file but the model, no network, and bounded memory."""
    GPU_OFFLOAD = enum.auto()
    """Layers can run on a GPU."""


def capability_names(capabilities: Capability) -> list[str]:
    """The lower-case names of the set flags, in the order of their definition."""
    return [flag.name.lower() for flag in Capability if flag in capabilities and flag.name]
