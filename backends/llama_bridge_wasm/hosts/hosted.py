"""What is the same on every host: the life of a guest, and its log."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeVar

from llama_bridge.errors import ClosedError, EngineError
from llama_bridge.later_signals import LaterSignals, signals_at_once
from llama_bridge.progress import OnProgress, Progress

from ..abi import ADAPTER_PATH, model_paths
from .logs import log_lines
from .wasi import GuestFile, Memory, World

__all__ = ["Hosted", "open_guest", "tell_compile"]

_PROBE_MS = 10_000
"""How long a machine may take to start threads. Only one that cannot start them takes this long."""

_logger = logging.getLogger("llama_bridge.wasm")
G = TypeVar("G", bound="Hosted")


def open_guest(make: Callable[[bool], G], threads: int) -> G:
    """Return a guest with so many threads, or with one if threads do not work.

    Args:
        make: makes a guest; True asks for a memory that threads can share.
        threads: how many; at least two are tried, to find out what the host can do.

    Raises:
        BackendUnavailable, OutOfMemory, EngineError: from ``make``.
    """
    guest: G | None = None
    try:
        # Python's wasmtime frees things twice if an interrupt comes between two of its lines.
        with LaterSignals():
            guest = _open(make, threads)
    except BaseException:
        if guest is not None:
            guest.close()
        raise
    return guest


def _open(make: Callable[[bool], G], threads: int) -> G:
    guest = make(True)
    try:
        if guest.probe(max(2, threads)):
            guest.threads, guest.has_threads = threads, True
            return guest
        why = "they did not start in time"
    except EngineError as error:
        why = str(error)
    except BaseException:
        guest.close()
        raise
    guest.close()
    _logger.warning("threads of llama.wasm do not work here, using one: %s", why)
    return make(False)


def tell_compile(on_progress: OnProgress | None, done: int, total: int) -> None:
    """Report the stage ``"compile"``: with 0 before it, with the size of llama.wasm after it."""
    if on_progress is not None:
        with signals_at_once():
            on_progress(Progress("compile", done, total, "bytes"))


class Hosted(Memory, ABC):
    """A guest that can be called until it is closed or traps. After a trap it is dead, and every call raises.

    Attributes:
        failures: the host's own errors that a call may raise; they do not leave this package.
        world: the imports of the guest.
        threads: how many threads compute; that many were tried.
        has_threads: whether more than one can compute; at least two were tried.
        has_final_code: whether its machine code stays as it is.
    """

    failures: ClassVar[tuple[type[Exception], ...]]
    threads = 1
    has_threads = False
    has_final_code = False

    def __init__(self, file: GuestFile) -> None:
        files = (file, *file.more)
        names = map(_name, model_paths(len(files)))
        self.world = World(dict(zip(names, files, strict=True)), self, self._log)
        self._last_words = ""
        self._dead = ""
        self._closed = False

    @abstractmethod
    def close(self) -> None:
        """See :class:`~.abi.Guest`."""

    @abstractmethod
    def _run(self, name: str, args: tuple[int, ...]) -> int:
        """Call an export."""

    @abstractmethod
    def _kill(self) -> None:
        """End the guest's threads, which would otherwise wait for this one forever."""

    @abstractmethod
    def _words(self, error: Exception) -> str:
        """A failure as one line."""

    def recall(self, name: str) -> str:
        """See :class:`~.abi.Guest`."""
        return ""

    def keep(self, name: str, word: str) -> None:
        """See :class:`~.abi.Guest`."""

    def probe(self, threads: int) -> bool:
        """Whether this many threads can run at once over one memory here. If not, close this guest.

        Raises:
            EngineError: starting them failed.
        """
        return self.call("lb_probe_threads", threads, _PROBE_MS) == 1

    def call(self, name: str, *args: int) -> int:
        """See :class:`~.abi.Guest`."""
        self._check_open()
        if self._dead:
            raise EngineError(self._dead)
        try:
            result = self._run(name, args)
        except self.failures as error:
            failure = self.world.failure
            died = self._died(name, error)
            self._kill()  # only now: by then it is known which failure came first
            if failure is not None and not isinstance(failure, Exception):
                raise failure from error  # a Ctrl-C
            raise died from error
        if (failure := self.world.failure) is not None:
            self.world.failure = None
            if isinstance(failure, Exception):
                why = self._words(failure) if isinstance(failure, self.failures) else failure
                raise EngineError(f"{name}: the host failed: {why}") from failure
            raise failure
        return result

    def lend(self, open_file: Callable[[], BinaryIO], size: int, path: Path) -> None:
        """See :class:`~.abi.Guest`."""
        self.world.lend(_name(ADAPTER_PATH), GuestFile(open_file, size, path))

    def take_back(self) -> None:
        """See :class:`~.abi.Guest`."""
        self.world.take_back(_name(ADAPTER_PATH))

    def _begin(self) -> None:
        self.call("_initialize")
        # Each line costs a call into Python, and a load logs hundreds: only if somebody listens.
        self.call("lb_set_log_level", 2 if _logger.isEnabledFor(logging.DEBUG) else 3)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed")

    def _died(self, name: str, error: Exception) -> EngineError:
        code = self.world.exit_code
        why = f"it exited with status {code}" if code is not None else self._words(error)
        words = f" It last said: {self._last_words.rstrip('.')}." if self._last_words else ""
        self._dead = f"llama.wasm stopped in {name}: {why}.{words} Load the model again."
        cause, self.world.failure = self.world.failure, None
        error.__cause__ = error.__cause__ or cause
        return EngineError(self._dead)

    def _log(self, data: bytes) -> None:
        for level, text in log_lines(data):
            self._last_words = text
            if self.world.failure is not None:
                level = logging.DEBUG  # that failure is raised; this one only follows from it
            _logger.log(level, "%s", text)


def _name(path: str) -> str:
    """A guest's path as WASI passes it on: relative to the one folder."""
    return path.lstrip("/")
