"""What a loaded model on a backend can do, as flags that are read before work starts."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from .checks import shown
from .errors import InvalidInput

__all__ = ["Capability", "as_capability", "capability_names"]


class Capability(enum.Flag):
    """One flag for each thing that not every backend, or not every model, can do.

    Wherever a flag is asked for, its name will do, in any case and with ``-`` or ``_``:
    ``"session-persistence" in llama.capabilities``.
    """

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

    def __contains__(self, other: enum.Flag | str) -> bool:
        # Without this a name would be a TypeError here, and a flag everywhere else.
        flags = other if isinstance(other, Capability) else as_capability(other)
        return self & flags == flags


def as_capability(given: object) -> Capability:
    """Flags as somebody wrote them: a flag, its name in any case with ``-`` or ``_``, or several of these.

    Raises:
        InvalidInput: something that is no capability; lists those that are.
    """
    if isinstance(given, Capability | str):
        return _one(given)
    if not isinstance(given, Iterable):
        raise _no_capability(given)
    flags = Capability(0)
    for one in cast("Iterable[object]", given):
        flags |= _one(one)
    return flags


def _one(given: object) -> Capability:
    if isinstance(given, Capability):
        return given
    if isinstance(given, str):
        with suppress(KeyError):
            return Capability[given.strip().replace("-", "_").upper()]
    raise _no_capability(given)


def _no_capability(given: object) -> InvalidInput:
    named = " named" if isinstance(given, str) else ":"
    known = ", ".join(capability_names(~Capability(0)))
    return InvalidInput(f"no capability{named} {shown(given)}; there are: {known}")


def capability_names(capabilities: Capability) -> list[str]:
    """The lower-case names of the set flags, in the order of their definition."""
    return [flag.name.lower() for flag in Capability if flag in capabilities and flag.name]
