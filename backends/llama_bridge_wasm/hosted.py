"""What is the same on every host: the life and death of a guest, and what it says."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

from llama_bridge.errors import ClosedError, EngineError

from .abi import MODEL_PATH
from .logs import LOG_TAIL, log_lines
from .wasi import GuestFile, Memory, World

__all__ = ["Hosted"]

_logger = logging.getLogger("llama_bridge.wasm")


class Hosted(Memory, ABC):
    """A guest that can be called until it is closed, or until it trapped: then it is dead, and says so.

    Attributes:
        failures: what a call may raise: the host's own errors, which do not leave this package.
        world: the imports of the guest.
    """

    failures: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, file: GuestFile) -> None:
        self.world = World(file, MODEL_PATH.lstrip("/"), self, self._log)
        self._log_lines: deque[str] = deque(maxlen=LOG_TAIL)
        self._dead = ""
        self._closed = False

    @abstractmethod
    def _run(self, name: str, args: tuple[int, ...]) -> int:
        """Call an export."""

    @abstractmethod
    def _words(self, error: Exception) -> str:
        """A failure in one line."""

    @property
    def log_tail(self) -> str:
        """See :class:`~.abi.Guest`."""
        return "\n".join(self._log_lines)

    def call(self, name: str, *args: int) -> int:
        """See :class:`~.abi.Guest`."""
        self._check_open()
        if self._dead:
            raise EngineError(self._dead)
        try:
            result = self._run(name, args)
        except self.failures as error:
            raise self._died(name, error) from error
        if (failure := self.world.failure) is not None:
            self.world.failure = None
            if isinstance(failure, Exception):
                raise EngineError(f"{name}: the host failed: {failure}") from failure
            raise failure
        return result

    def _begin(self) -> None:
        self.call("_initialize")
        # A line costs a call into Python: the hundreds about each load only where somebody listens.
        self.call("lb_set_log_level", 2 if _logger.isEnabledFor(logging.DEBUG) else 3)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed")

    def _died(self, name: str, error: Exception) -> EngineError:
        code = self.world.exit_code
        why = f"it left with status {code}" if code is not None else self._words(error)
        words = f" It last said: {self._log_lines[-1]}" if self._log_lines else ""
        self._dead = f"llama.wasm stopped in {name}: {why}.{words} Load the model again."
        cause, self.world.failure = self.world.failure, None
        error.__cause__ = error.__cause__ or cause
        return EngineError(self._dead)

    def _log(self, data: bytes) -> None:
        for level, text in log_lines(data):
            self._log_lines.append(text)
            _logger.log(level, "%s", text)
