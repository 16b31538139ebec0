"""Who may call into the guest, and what a status means.

A guest takes one call at a time. Most calls come from the one thread that computes. Calls for the vocabulary come from
any thread, and must not wait for a whole answer. So the lock is held for one call only, which is one chunk of a prompt
or one token, and between two calls a waiting vocabulary call goes first.
"""

from __future__ import annotations

import os
import threading

from llama_bridge.engine import CacheFull
from llama_bridge.errors import EngineError, InvalidInput, OutOfMemory

from ..abi import Guest, Status
from .marshal import last_error

__all__ = ["Calls"]


class Calls:
    """Access to one guest.

    .. code-block:: python

        calls.line_up()                     # to compute
        with calls.lock: ...

        calls.check_caller()                # to use the vocabulary
        with calls.turnstile, calls.lock: ...

    Both refuse a signal handler that interrupted a call of its own thread: the guest is in the middle of it.

    Everybody passes the turnstile. A thread that computes goes straight through. A thread that wants the vocabulary holds
    it while waiting and working, so it is next. Using ``with`` on the locks themselves means no interrupt can lose one.

    Attributes:
        turnstile: the thread that holds it makes the next call.
        lock: the thread that holds it may use the guest: its calls, its memory, its last error message.
    """

    def __init__(self, guest: Guest, path: str) -> None:
        self.turnstile = threading.RLock()  # a signal handler in the thread that holds it passes
        self.lock = threading.RLock()
        self._guest = guest
        self._path = path
        self._process = os.getpid()

    def check_open(self) -> None:
        """Raise what a call would raise now, as before a check of its arguments.

        Raises:
            EngineError: this is a fork, or the guest has stopped.
            ClosedError.
        """
        self.line_up()
        with self.lock:
            self._guest.call("lb_abi_version")

    def line_up(self) -> None:
        """Call before computing: lets waiting vocabulary calls go first.

        Raises:
            EngineError: this is a fork.
        """
        self.check_caller()
        with self.turnstile:
            pass

    @property
    def interrupted(self) -> bool:
        """Whether the calling thread is in a call already: this is a signal handler."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]

    def check_caller(self) -> None:
        """Raise in a fork, which lacks the guest's threads and the thread that may hold the lock.

        Raises:
            EngineError: this is a fork.
            InvalidInput: this is a signal handler that interrupted a call.
        """
        if self.interrupted:
            raise InvalidInput(
                "called from a signal handler while its thread uses llama.wasm: call again after it has returned"
            )
        if self._process != os.getpid():
            raise EngineError(
                "this process was forked after the model was loaded: load it again in this process"
            )

    def call(self, name: str, *args: int) -> int:
        """Call an export, with the lock held, and return its result.

        Raises:
            InvalidInput, CacheFull, OutOfMemory, EngineError: for a negative status.
            ClosedError.
        """
        return self.checked(self._guest.call(name, *args))

    def checked(self, result: int) -> int:
        """Return the result of a call, unless it is a negative status; with the lock still held.

        Raises:
            InvalidInput, CacheFull, OutOfMemory, EngineError: for that status.
        """
        if result >= 0:
            return result
        message = last_error(self._guest)
        if result == Status.BAD_ARGUMENT:
            raise InvalidInput(message)
        if result == Status.CACHE_FULL:
            raise CacheFull(message)
        if result == Status.OUT_OF_MEMORY:
            raise OutOfMemory(self._path, message)
        raise EngineError(message)
