"""Runs a function on a large enough stack: some of llama.cpp's pre-tokenizers recurse once per character.

The calling thread's stack may be small: 128 kB in some containers, 512 kB in a thread on a Mac. Python can only set the
size for the whole process (``threading.stack_size``), so the thread is started through the system.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from llama_bridge.errors import EngineError

__all__ = ["with_deep_stack"]

T = TypeVar("T")

_PER_CHARACTER = 1024
"""Bytes of stack; std::regex takes about 400."""
_LEAST = 1 << 20
_DETACHED = 2 if sys.platform == "darwin" else 1  # PTHREAD_CREATE_DETACHED
_ATTRIBUTES = 128  # bytes, more than any pthread_attr_t
_STACK_SIZE_IS_A_RESERVATION = 0x00010000

_started: dict[int, Callable[[], None]] = {}
_numbers = itertools.count(1)


def with_deep_stack(work: Callable[[], T], characters: int) -> T:
    """Run ``work`` in a thread with stack for recursion over this many characters, and return its result.

    The stack is address space; only the used part becomes memory. An interrupt does not wait for the thread, which ends
    by itself, so ``work`` must take the locks that it needs.

    Raises:
        EngineError: the system could not start the thread.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    finished = threading.Lock()
    finished.acquire()

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            finished.release()

    number = next(_numbers)
    _started[number] = run
    if status := _start(number, _LEAST + characters * _PER_CHARACTER):
        del _started[number]
        raise EngineError(f"could not start a thread to tokenize a long text (error {status})")
    with finished:  # released by the thread
        pass
    if failed:
        raise failed[0]
    return done[0]


def _run(number: int | None) -> None:
    _started.pop(number or 0)()


if sys.platform == "win32":
    _entry: Any = ctypes.WINFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(lambda n: _run(n) or 0)

    def _start(number: int, stack: int) -> int:
        """Start a thread that calls ``_run(number)``; 0, or an error."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateThread.restype = ctypes.c_void_p
        handle = kernel.CreateThread(
            None,
            ctypes.c_size_t(stack),
            _entry,
            ctypes.c_void_p(number),
            _STACK_SIZE_IS_A_RESERVATION,
            None,
        )
        if not handle:
            return ctypes.get_last_error()
        kernel.CloseHandle(ctypes.c_void_p(handle))
        return 0

else:
    # One for all threads, never freed: a thread may still be returning through its code.
    _entry = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_run)
    _libc = ctypes.CDLL(None)

    def _start(number: int, stack: int) -> int:
        """Start a thread that calls ``_run(number)``; 0, or an error."""
        attributes = ctypes.create_string_buffer(_ATTRIBUTES)
        thread = ctypes.c_void_p()
        _libc.pthread_attr_init(attributes)
        try:
            stack += -stack % (1 << 16)  # whole pages, however large they are
            status = _libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(stack))
            status = status or _libc.pthread_attr_setdetachstate(attributes, _DETACHED)
            return int(
                status
                or _libc.pthread_create(
                    ctypes.byref(thread), attributes, _entry, ctypes.c_void_p(number)
                )
            )
        finally:
            _libc.pthread_attr_destroy(attributes)
