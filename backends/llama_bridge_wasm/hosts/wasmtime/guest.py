"""A guest on wasmtime, whose errors do not leave this folder."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: D102  (the Guest protocol documents its methods)

from __future__ import annotations

import ctypes
import io
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, cast

import wasmtime

from llama_bridge.errors import EngineError
from llama_bridge.later_signals import LaterSignals
from llama_bridge.on_wasmtime.compiled_cache import CompiledCache
from llama_bridge.on_wasmtime.prepared_call import FAILURES, words
from llama_bridge.progress import OnProgress

from ...abi import BadPointer
from ..hosted import Hosted
from ..wasi import GuestFile
from .address_space import check_address_space
from .instance import Instance
from .module import Compiled, compiled_module
from .threads import SharedMemory, Threads, refuse

__all__ = ["WasmtimeGuest"]

_SMALL = 64 << 20
"""Address space for what a start needs besides its two reservations."""

_OF_EACH_TOKEN = (
    "lb_step",
    "lb_draw",
    "lb_accept",
    "lb_length",
    "lb_token_bytes",
    "lb_logprobs",
    "lb_look",
)
"""These call no function of the host, so signals need not wait."""


class WasmtimeGuest(Hosted):
    """A new instance of llama.wasm that can read the files of one model. See :class:`~.abi.Guest`."""

    failures = FAILURES
    has_final_code = True

    def __init__(
        self,
        wasm: Path,
        file: GuestFile,
        memory_limit: int,
        cache: CompiledCache | None = None,
        *,
        shared: bool = True,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Instantiate.

        Args:
            wasm: the module.
            file: the model that the guest may read.
            memory_limit: the most bytes of linear memory.
            cache: cache of compiled code; by default the user's own.
            shared: use a memory that threads can share.
            on_progress: called for the stage ``"compile"``, if it has to compile.

        Raises:
            BackendUnavailable: the module cannot be used here.
            OutOfMemory: the limit is too small even for the module itself, or there is no address space.
            EngineError: it could not be started.
        """
        check_address_space(file.path)  # first: the compiler ends the process if it gets no memory
        compiled = compiled_module(wasm, cache, shared=shared, on_progress=on_progress)
        most = compiled.memory.most(memory_limit, file.path)
        self._limits = wasmtime.Limits(compiled.memory.minimum, most)
        self.version = f"wasmtime {metadata.version('wasmtime')}"
        super().__init__(file)
        self._life = threading.RLock()  # only for flag writes and close; never held during work
        self._base = 0
        self._size: Callable[[], int] = int
        self._threads: Threads | None = None
        self._shared: SharedMemory | None = None
        self._main: Instance | None = None
        imports, unknown = self.world.imports(), self.world.unknown
        try:
            if shared:
                memory = self._shared_memory(compiled)
                threads = self._threads = Threads(compiled, memory, self.world)
                self._main = Instance(compiled, lambda _: memory, imports, unknown, threads.spawn)
            else:
                self._main = Instance(compiled, self._own_memory, imports, unknown, refuse)
            self._begin()
        except self.failures as error:
            self.close()
            check_address_space(file.path, _SMALL)
            raise EngineError(f"llama.wasm could not be started: {self._words(error)}") from error
        except BaseException:
            self.close()
            raise

    def _shared_memory(self, compiled: Compiled) -> SharedMemory:
        kind = wasmtime.MemoryType(self._limits, shared=True)
        memory = self._shared = SharedMemory(compiled.engine, kind)
        self._base, self._size = memory.address, memory.data_len
        return memory

    def _own_memory(self, store: wasmtime.Store) -> wasmtime.Memory:
        memory = wasmtime.Memory(store, wasmtime.MemoryType(self._limits))
        self._base = ctypes.addressof(memory.data_ptr(store).contents)
        self._size = lambda: memory.data_len(store)
        return memory

    # the Guest protocol

    @property
    def memory_size(self) -> int:
        self._check_open()
        return self._size()

    def _run(self, name: str, args: tuple[int, ...]) -> int:
        assert self._main is not None
        if name in _OF_EACH_TOKEN:
            return self._main.call(name, *args)
        with LaterSignals():
            return self._main.call(name, *args)

    def _words(self, error: Exception) -> str:
        return (self._threads.failure if self._threads else "") or words(error)

    def read(self, pointer: int, size: int) -> bytearray:
        return bytearray(self._view(pointer, size))

    def write(self, pointer: int, data: bytes) -> None:
        self._view(pointer, len(data))[:] = data

    def fill(self, pointer: int, size: int, file: BinaryIO) -> int:
        target, done = self._view(pointer, size), 0
        while done < size:  # the system may read less than asked for, 2 GB at most
            n = cast("io.FileIO", file).readinto(target[done:])
            if not n:
                break
            done += n
        return done

    def flag(self, pointer: int) -> Callable[[int], None]:
        self._view(pointer, 4)
        cell = ctypes.c_int32.from_address(self._base + pointer)

        def write(value: int) -> None:
            with self._life:
                if not self._closed:
                    cell.value = value

        return write

    stopped = False  # here flag() is the only way to stop

    def pause(self) -> None:
        pass  # other work has its own threads

    chunk = 1 << 16

    def close(self) -> None:
        with LaterSignals():  # as in open_guest
            self._close()

    def _close(self) -> None:
        with self._life:
            if self._closed:
                return
            self._closed = True
        if self._main is not None:
            if self._threads is not None:
                self._kill()
                self._threads.join()
            self._main.close()
        self._size, self._threads = int, None  # they hold the memory
        if self._shared is not None:
            self._shared.close()  # not left to the garbage collector: a failure's frames may hold it for long
        self.world.close()

    # inside

    def _view(self, pointer: int, size: int) -> memoryview:
        self._check_open()
        if pointer < 0 or size < 0 or pointer + size > self._size():
            raise BadPointer(pointer, size)
        return memoryview((ctypes.c_ubyte * size).from_address(self._base + pointer)).cast("B")

    def _kill(self) -> None:
        assert self._main is not None
        with suppress(*self.failures):
            self._main.call("lb_kill")
