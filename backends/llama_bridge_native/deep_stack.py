"""Runs a function on a stack of its own size: llama.cpp's tokenisers recurse once for each character."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["with_deep_stack"]

T = TypeVar("T")

_PER_BYTE = 1024  # std::regex takes some 320 bytes of stack for a character
_LEAST, _MOST = 16 << 20, 2 << 30
_sizing = threading.Lock()  # the size is a setting of the whole process


def with_deep_stack(work: Callable[[], T], n_bytes: int) -> T:
    """The result of ``work``, done in a thread with room to recurse over ``n_bytes`` of text.

    The stack is address space: only what is used becomes memory.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    size = min(max(_LEAST, n_bytes * _PER_BYTE), _MOST)
    with _sizing:
        before = threading.stack_size(size)
        try:
            thread = threading.Thread(target=run, name="llama-bridge-tokenize")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
