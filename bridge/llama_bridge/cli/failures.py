"""Errors in terms of the command line: options instead of arguments, and hints that work there."""

from __future__ import annotations

import shlex
from typing import Any

import click

from .. import registry
from ..capabilities import Capability
from ..errors import (
    BackendUnavailable,
    BridgeError,
    ContextOverflow,
    InvalidModel,
    OutOfMemory,
    SessionCorrupt,
    SessionMismatch,
    UnsupportedCapability,
)

__all__ = ["as_record", "describe"]

_SHORT = 32


def as_record(error: BridgeError | click.ClickException) -> dict[str, Any]:
    """An error as ``--json`` shows it: its type, what happened, and a hint, possibly empty."""
    if isinstance(error, BridgeError):
        message, hint = _explain(error)
    else:
        message, hint = error.format_message(), ""
    return {"error": {"type": type(error).__name__, "message": message, "hint": hint}}


def describe(error: BridgeError) -> str:
    """The message of an error, with a hint for the command line."""
    return "\n".join(filter(None, _explain(error)))


def _explain(error: BridgeError) -> tuple[str, str]:
    """What happened, and what to do about it on the command line."""
    if isinstance(error, ContextOverflow) and error.text:
        what = (
            f"{error.text} has {error.needed:,} tokens, but the model reads at most {error.n_ctx:,}"
        )
        return what, "shorten it, or give --truncate"
    if isinstance(error, ContextOverflow):
        few, more = ("at least ", "more than {}") if error.at_least else ("", "{} or more")
        return (
            f"{few}{error.needed:,} tokens do not fit the context of {error.n_ctx:,}",
            f"shorten the prompt, start a new conversation, or give --n-ctx {more.format(error.needed)}",
        )
    if isinstance(error, SessionMismatch):
        return _mismatch(error)
    if isinstance(error, UnsupportedCapability):
        return _unsupported(error)
    if isinstance(error, BackendUnavailable):
        return str(error).removesuffix(f"\n{error.hint}"), error.hint
    if isinstance(error, InvalidModel | SessionCorrupt) and error.found in _KINDS:
        what = error.reason.partition(":")[0]  # the rest is a hint for Python
        return f"{error.path}: {what}", _KINDS[error.found].format(shlex.quote(error.path))
    if isinstance(error, OutOfMemory):
        return _in_options(str(error)), ""
    return str(error), ""


def _in_options(text: str) -> str:
    """Settings as the options that set them."""
    for setting, option in _OPTIONS.items():
        text = text.replace(setting, option)
    return text


_OPTIONS = {
    'type_k="q8_0", type_v="q8_0"': "--type-k q8_0 --type-v q8_0",
    "check_memory=False": "--no-memory-check",
    'n_gpu_layers="auto"': "--n-gpu-layers auto",
    "n_gpu_layers": "--n-gpu-layers",
    "n_ctx": "--n-ctx",
}
_OF_MODEL = Capability.GENERATE | Capability.EMBEDDINGS | Capability.RERANK
_IN_PYTHON = {
    "pooling='mean' or pooling='last'": "--pooling mean or --pooling last",
    "call embed()": "use llama-bridge embed",
    "call rerank()": "use llama-bridge rerank",
}
_KINDS = {
    "gguf": "llama-bridge chat {0} talks to it, llama-bridge info {0} shows what is in it",
    "session": "llama-bridge session info {0} shows which model it is from",
    "adapter": "give it with --adapter {0}, beside its model; llama-bridge info {0} shows what is in it",
}


def _mismatch(error: SessionMismatch) -> tuple[str, str]:
    # Not the whole message: its hint is an argument of session_load.
    differs = f"{error.field} differs: saved with {error.saved!r}, now {error.current!r}"
    if error.field == "context.n_ctx":
        return f"{error.path}: {differs}", f"try --n-ctx {error.saved}"
    if max(len(repr(error.saved)), len(repr(error.current))) <= _SHORT:
        return f"{error.path}: {differs}", ""
    other = "with another model" if error.field.startswith("model.") else "with other settings"
    return f"{error.path}: saved {other}: {error.field} differs", ""


def _unsupported(error: UnsupportedCapability) -> tuple[str, str]:
    if error.capability is Capability.CHAT_TEMPLATE:  # depends on the model, not on the backend
        return "this model has no chat template, so it cannot take a system message", ""
    if error.why and error.capability in _OF_MODEL:
        why = error.why
        for python, option in _IN_PYTHON.items():
            why = why.replace(python, option)
        what, _, way_out = why.partition(": ")
        return what, way_out
    if error.available_in:
        return str(error), f"try --backend {error.available_in[0]}"
    states = {state.name: state for state in registry.probe_all()}
    for backend in registry.local_backends():
        if error.capability in backend.capabilities and (hint := states[backend.name].hint):
            return str(error), f"to get it: {hint}"  # the error names the backend
    return str(error), ""
