"""What a loaded model on a backend can do, as flags to check before work starts."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from .checks import shown
from .errors import InvalidInput
from .markup import rows

__all__ = ["Capability", "as_capability", "capability_names"]


class _Shown:
    """A form for notebooks. Not in the class itself, where such a name is reserved."""

    def _repr_html_(self) -> str:
        assert isinstance(self, Capability)
        able = dict.fromkeys(capability_names(self), "yes")
        return rows("Capabilities", able | dict.fromkeys(capability_names(~self), "no"))


class Capability(_Shown, enum.Flag):
    """What a model on a backend can do; not every backend and not every model can do everything.

    Wherever a flag is asked for, its name will do, in any case and with ``-`` or ``_``:
    ``"session-persistence" in llama.capabilities``.
    """

    GENERATE = enum.auto()
    """Fresh text generation."""
    STREAM = enum.auto()
    """Text arrives while it is generated."""
    CANCEL = enum.auto()
    """``cancel()`` ends a running call, in prefill and in decode."""
    JSON_SCHEMA = enum.auto()
    """``json_schema=`` and ``grammar=``: an answer follows a JSON schema or a grammar."""
    LOGPROBS = enum.auto()
    """``logprobs=``: how probable each token of an answer was."""
    CHAT_TEMPLATE = enum.auto()
    """The model has a chat template, so a prompt is what the user says in a turn."""
    TOOLS = enum.auto()
    """``chat(..., tools=...)``: the model can ask for calls, in its template's form or in this library's."""
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
    EMBEDDINGS = enum.auto()
    """The model turns texts into vectors: ``embed``."""
    RERANK = enum.auto()
    """The model says how well documents fit a query: ``rerank``."""
    ADAPTERS = enum.auto()
    """LoRA adapters: ``adapters=`` at load, and ``set_adapters``."""
    PARALLEL = enum.auto()
    """Several calls can be computed at once: ``n_parallel=``."""

    def __contains__(self, other: enum.Flag | str) -> bool:
        # Without this, a name would raise a TypeError here but work everywhere else.
        flags = other if isinstance(other, Capability) else as_capability(other)
        return self & flags == flags


def as_capability(given: object) -> Capability:
    """Read flags: a flag, its name in any case with ``-`` or ``_``, or several of these.

    Raises:
        InvalidInput: not a capability; lists those that exist.
    """
    if isinstance(given, Capability | str):
        return _one(given)
    if not isinstance(given, Iterable):
        raise _no_capability(given)
    flags = Capability(0)
    try:
        several = list(cast("Iterable[object]", given))
    except Exception as error:  # somebody's own class
        raise _no_capability(cast("object", given)) from error
    for one in several:
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
    return InvalidInput(f"no capability{named} {shown(given)}; choose from: {known}")


def capability_names(capabilities: Capability) -> list[str]:
    """The lower-case names of the set flags, in order of definition."""
    return [flag.name.lower() for flag in Capability if flag in capabilities and flag.name]
