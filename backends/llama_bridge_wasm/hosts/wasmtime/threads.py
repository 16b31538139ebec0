"""Threads of a guest on wasmtime: each is its own instance over one shared memory, on a Python thread.

A call into wasmtime does not hold Python's lock, so they run in parallel.
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

from llama_bridge.on_wasmtime.prepared_call import FAILURES, words

from ..wasi import World
from .instance import Instance
from .module import Compiled

__all__ = ["SharedMemory", "Threads", "refuse"]

_END_SECONDS = 10.0
_MOST = 512
"""The most threads at a time, as for ``n_threads``. An attacker may control the guest."""
_PASSED_ON = ("fd_write", "proc_exit")
"""What a thread may call in the host: enough to say why it ends."""

_log = logging.getLogger("llama_bridge.wasm")


class SharedMemory(wasmtime.SharedMemory):
    """A shared memory that can be imported: wasmtime-py 50 passes the wrong type and fails (its issue 318)."""

    def _as_extern(self) -> Any:
        union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)

    @property
    def address(self) -> int:
        """Its address in this process; it never moves."""
        return ctypes.addressof(self.data_ptr().contents)


class Threads:
    """The extra threads of one guest.

    Attributes:
        failure: why the first thread trapped; empty if none has.
    """

    def __init__(self, compiled: Compiled, memory: SharedMemory, world: World) -> None:
        self._compiled = compiled
        self._memory = memory
        self._world = world
        self._running: set[threading.Thread] = set()
        self.failure = ""

    def spawn(self, pointer: int) -> int:
        """Start a thread for the guest; negative if that fails."""
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
            self._running.add(thread)  # before it starts, because it removes itself
            thread.start()
        except BaseException as error:  # a KeyboardInterrupt too: the host raises it after the call
            if thread is not None and not thread.is_alive():
                self._running.discard(thread)
            self._world.failure = self._world.failure or error
            return -1
        return 0

    def join(self) -> None:
        """Wait until all have ended, after the guest was told to."""
        end = time.monotonic() + _END_SECONDS
        for thread in list(self._running):
            thread.join(max(0.0, end - time.monotonic()))
        if self._running:
            _log.warning("%d threads of llama.wasm did not end", len(self._running))

    def _run(self, instance: Instance, pointer: int) -> None:
        try:
            instance.call("lb_thread_start", pointer)
        except FAILURES as error:
            self.failure = self.failure or words(error)
            with suppress(*FAILURES):
                instance.call("lb_kill")  # or the others would wait for this one forever
        finally:
            instance.close()
            self._running.discard(threading.current_thread())


def refuse(_pointer: int) -> int:
    """Start no thread, for an instance that may not have any."""
    return -1
