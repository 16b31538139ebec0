"""How a page stops a generation in its worker: with a number in shared memory.

A computing worker reads no messages. A cross-origin isolated page shares an ``Int32Array`` over a
``SharedArrayBuffer``: it writes 0 before it asks for an answer, and 1 to stop it, even in prefill. The library only
reads: if it reset the number, a stop that comes just before the answer begins would be lost. Without such a page, if the
browser can suspend Python (JSPI), the worker reads its messages between small chunks of tokens, and a message can call
``cancel()``.
"""

from __future__ import annotations

from typing import Any

from ...page import is_isolated, js, new

__all__ = ["is_shared", "watch", "watched"]

_array: Any = None


def watch(array: Any) -> None:
    """Make models that are loaded from now on watch this ``Int32Array``: while it holds 1, their answers end at once."""
    global _array
    _array = array


def watched() -> Any:
    """The array; created here if the page gave none."""
    if _array is None:
        kind = js.SharedArrayBuffer if is_isolated() else js.ArrayBuffer
        watch(new(js.Int32Array, new(kind, 4)))
    return _array


def is_shared() -> bool:
    """Whether code outside the worker can write into it."""
    return is_isolated() and watched().buffer.constructor.name == "SharedArrayBuffer"
