"""Threads of a guest on wasmtime: each is an instance of its own over one shared memory, on a thread of Python.

A call into wasmtime holds no lock of Python's, so they run at the same time.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import ctypes
import logging
import threading
import time
from contextlib import suppress
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

from ..wasi import World
from .instance import FAILURES, Instance, words
from .module import Compiled

__all__ = ["SharedMemory", "Threads", "refuse"]

_END_SECONDS = 10.0
_MOST = 512
"""Threads at a time: as many as ``n_threads`` may ask for. A guest may be under somebody's control."""
_PASSED_ON = ("fd_write", "proc_exit")
"""What a thread may ask the host for: to say why it ends."""

_log = logging.getLogger("llama_bridge.wasm")


class SharedMemory(wasmtime.SharedMemory):
    """One that can be imported: wasmtime-py 50 gives the wrong type and fails (its issue 318)."""

    def _as_extern(self) -> Any:
        union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)

    @property
    def address(self) -> int:
        """Where in this process it lies; it never moves."""
        return ctypes.addressof(self.data_ptr().contents)


class Threads:
    """The further threads of one guest.

    Attributes:
        failure: why the first one that trapped did so; empty if none has.
    """

    def __init__(self, compiled: Compiled, memory: SharedMemory, world: World) -> None:
        self._compiled = compiled
        self._memory = memory
        self._world = world
        self._running: set[threading.Thread] = set()
        self.failure = ""

    def spawn(self, pointer: int) -> int:
        """Start one, as the guest asks; negative if that cannot be."""
        if len(self._running) >= _MOST:
            return -1
        thread: threading.Thread | None = None
        try:
            imports = self._world.imports()
            instance = Instance(
                self._compiled,
                lambda _: self._memory,
                {name: imports[name] for name in _PASSED_ON},
                self._world.unknown,
                refuse,
            )
            name = f"llama.wasm-{len(self._running) + 1}"
            thread = threading.Thread(
                target=self._run, args=(instance, pointer), name=name, daemon=True
            )
            self._running.add(thread)  # before it starts: it takes itself out
            thread.start()
        except BaseException as error:  # a KeyboardInterrupt too: the host raises it after the call
            if thread is not None and not thread.is_alive():
                self._running.discard(thread)
            self._world.failure = self._world.failure or error
            return -1
        return 0

    def join(self) -> None:
        """Wait until all have ended: for a guest that was told to."""
        end = time.monotonic() + _END_SECONDS
        for thread in list(self._running):
            thread.join(max(0.0, end - time.monotonic()))
        if self._running:
            _log.warning("%d threads of llama.wasm do not end", len(self._running))

    def _run(self, instance: Instance, pointer: int) -> None:
        try:
            instance.call("lb_thread_start", pointer)
        except FAILURES as error:
            self.failure = self.failure or words(error)
            with suppress(*FAILURES):
                instance.call("lb_kill")  # or the others would wait for this one for ever
        finally:
            instance.close()
            self._running.discard(threading.current_thread())


def refuse(_pointer: int) -> int:
    """Starts no thread: for an instance that may have none."""
    return -1
