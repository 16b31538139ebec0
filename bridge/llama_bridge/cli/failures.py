"""Errors in the words of someone at a shell: options instead of arguments, one message, one status."""

from __future__ import annotations

from typing import IO, Any

import click

from ..errors import BridgeError, ContextOverflow, SessionMismatch, UnsupportedCapability
from .terminal import Terminal

__all__ = ["Failure", "describe"]

_SHORT = 32


class Failure(click.ClickException):
    """Ends the command with one message on standard error and status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it; ``file`` is click's and not used."""
        Terminal().error(self.message)


def describe(error: BridgeError) -> str:
    """The message of an error, with the way out that the command line offers."""
    if isinstance(error, ContextOverflow):
        return (
            f"{error.needed:,} tokens do not fit the context of {error.n_ctx:,}: shorten the prompt, "
            f"start a new conversation, or give --n-ctx {error.needed} or more"
        )
    if isinstance(error, SessionMismatch):
        return _mismatch(error)
    if isinstance(error, UnsupportedCapability) and error.available_in:
        return f"{error}\ntry --backend {error.available_in[0]}"
    return str(error)


def _mismatch(error: SessionMismatch) -> str:
    # Not the whole message: its way out is an argument of session_load.
    differs = f"{error.field} differs: saved with {error.saved!r}, now {error.current!r}"
    if error.field == "context.n_ctx":
        return f"{error.path}: {differs}\ntry --n-ctx {error.saved}"
    if max(len(repr(error.saved)), len(repr(error.current))) <= _SHORT:
        return f"{error.path}: {differs}"
    other = "with another model" if error.field.startswith("model.") else "otherwise"
    return f"{error.path}: saved {other}: {error.field} differs"
