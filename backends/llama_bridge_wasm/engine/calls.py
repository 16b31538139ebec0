"""Who may call into the guest, and what its answers mean.

A guest takes one call at a time. Most come from the one thread that computes; those for the vocabulary come from any,
and must not wait for a whole answer. So each call, one piece of a prompt or one token, is made under a lock of its own,
and between two of them whoever wants the vocabulary goes first.
"""

from __future__ import annotations

import os
import threading

from llama_bridge.errors import ContextOverflow, EngineError, InvalidInput, OutOfMemory

from ..abi import Guest, Info, Status
from .marshal import last_error

__all__ = ["Calls"]


class Calls:
    """The way into one guest.

    .. code-block:: python

        calls.line_up()                     # to compute
        with calls.lock: ...

        calls.check_process()               # to look into the vocabulary
        with calls.turnstile, calls.lock: ...

    Everybody passes the turnstile. Who computes goes straight through it; who wants the vocabulary stays in it while
    waiting and working, and is the next one for that. With ``with`` on the locks themselves no interrupt can lose one.

    Attributes:
        turnstile: whoever is in it is the next one to call.
        lock: whoever has it may use the guest: calls, its memory, the words of its last error.
    """

    def __init__(self, guest: Guest, path: str) -> None:
        self.turnstile = threading.Lock()
        self.lock = threading.Lock()
        self._guest = guest
        self._path = path
        self._process = os.getpid()

    def line_up(self) -> None:
        """Before work: let those go first who want the vocabulary.

        Raises:
            EngineError: in a fork.
        """
        self.check_process()
        with self.turnstile:
            pass

    def check_process(self) -> None:
        """Refuse to wait for what a fork does not have: threads of the guest, or one that has the lock.

        Raises:
            EngineError: in a fork.
        """
        if self._process != os.getpid():
            raise EngineError(
                "this process was forked after the model was loaded: load it again here"
            )

    def call(self, name: str, *args: int) -> int:
        """The result of an export, with the lock.

        Raises:
            InvalidInput, ContextOverflow, OutOfMemory, EngineError: as it says.
            ClosedError.
        """
        return self.checked(self._guest.call(name, *args))

    def checked(self, result: int) -> int:
        """The result of a call, if it is no status; with the lock still held.

        Raises:
            InvalidInput, ContextOverflow, OutOfMemory, EngineError: as it says.
        """
        if result >= 0:
            return result
        message = last_error(self._guest)
        if result == Status.BAD_ARGUMENT:
            raise InvalidInput(message)
        if result == Status.CONTEXT_FULL:
            length, n_ctx = self._guest.call("lb_length"), self._guest.call("lb_info", Info.N_CTX)
            raise ContextOverflow(length + 1, n_ctx)
        if result == Status.OUT_OF_MEMORY:
            raise OutOfMemory(self._path, message)
        raise EngineError(message)
