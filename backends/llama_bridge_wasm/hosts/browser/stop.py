"""How a page stops the generation that runs in its worker: one number in memory that both can reach.

A worker that computes reads no messages. Where the page is cross-origin isolated it shares an ``Int32Array`` over a
``SharedArrayBuffer``; writing 1 into it ends the running call, in prefill too. Elsewhere the worker looks at its
messages between small chunks of tokens, if the browser can suspend Python (JSPI), and a message can call ``cancel()``.
"""

from __future__ import annotations

from typing import Any

from ...page import is_isolated, js, new

__all__ = ["is_shared", "watch", "watched"]

_array: Any = None


def watch(array: Any) -> None:
    """Have models that are loaded from now on look at this ``Int32Array``: a page writes 1 to stop them."""
    global _array
    _array = array


def watched() -> Any:
    """The array, made here if no page gave one."""
    if _array is None:
        kind = js.SharedArrayBuffer if is_isolated() else js.ArrayBuffer
        watch(new(js.Int32Array, new(kind, 4)))
    return _array


def is_shared() -> bool:
    """Whether somebody outside the worker can write into it."""
    return is_isolated() and watched().buffer.constructor.name == "SharedArrayBuffer"
