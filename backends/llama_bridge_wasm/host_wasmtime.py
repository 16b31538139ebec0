"""A guest on wasmtime. The only module that imports wasmtime: none of its errors leave this file."""

# The raw C interface is wasmtime's private side: pinned to one major, used in _Export alone, and untyped.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# ruff: noqa: D102  (the Guest protocol documents its methods)

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

import wasmtime
from wasmtime import _ffi as ffi

from llama_bridge.errors import BackendUnavailable, EngineError

from .compiled_cache import CompiledCache, cache_key, default_folder
from .hosted import Hosted
from .memory_limit import check_room
from .wasi import WASI, GuestFile

__all__ = ["WasmtimeGuest", "compiled_module"]

_CONFIG = "exceptions,simd,relaxed_simd,fixed_memory"

# Called in the middle of a decode, where a Python function could swallow a Ctrl-C: a signal that is pending when
# ctypes enters Python is raised, and lost, before the first line. Neither opens anything.
_FROM_WASMTIME = ("clock_time_get", "random_get")

# (module (func (export "stop") (result i32) i32.const 0)): a function in Python would cost 8 µs a call.
_NEVER = bytes.fromhex("0061736d010000000105016000017f030201000708010473746f7000000a0601040041000b")

_log = logging.getLogger("llama_bridge.wasm")
_compiling = threading.Lock()
_modules: dict[str, tuple[wasmtime.Engine, wasmtime.Module]] = {}


def compiled_module(
    path: Path, cache: CompiledCache | None = None
) -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The module at ``path`` as machine code: of this process, from the cache, or compiled (seconds).

    Raises:
        BackendUnavailable: it cannot be read, or wasmtime refuses it.
    """
    try:
        code = path.read_bytes()
    except OSError as error:
        raise BackendUnavailable("wasm", f"{path} cannot be read: {error}") from error
    key = cache_key(code, metadata.version("wasmtime"), _CONFIG)
    with _compiling:
        if key not in _modules:
            try:
                _modules[key] = _load_or_compile(
                    code, key, cache or CompiledCache(default_folder())
                )
            except wasmtime.WasmtimeError as error:
                raise BackendUnavailable("wasm", f"wasmtime refuses {path}: {error}") from error
        return _modules[key]


def _load_or_compile(
    code: bytes, key: str, cache: CompiledCache
) -> tuple[wasmtime.Engine, wasmtime.Module]:
    # Defaults kept on purpose: a 4 GiB reservation (without it, bounds checks cost 18 to 42 %), and neither
    # epochs nor fuel (23 to 38 %): cancelling is a flag in guest memory.
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.wasm_simd = True
    config.wasm_relaxed_simd = True
    config.memory_may_move = False  # flag() keeps an address
    engine = wasmtime.Engine(config)
    if (cached := cache.find(key)) is not None:
        try:
            return engine, wasmtime.Module.deserialize_file(engine, str(cached))
        except wasmtime.WasmtimeError:
            cache.discard(cached)
    _log.info("compiling llama.wasm to machine code: some seconds, once per user and version")
    clock = time.perf_counter()
    module = wasmtime.Module(engine, code)
    _log.info("compiled llama.wasm in %.1f s", time.perf_counter() - clock)
    cache.store(key, module.serialize())
    _trim()
    return engine, module


def _trim() -> None:
    """Hand the compiler's freed memory back, 100 MB that would else stay with this process. glibc only."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Export:
    """A prepared call: wasmtime's own ``Func.__call__`` takes ten times as long.

    It also keeps apart what that one mixes: a trap, and a KeyboardInterrupt that came in during a call which
    itself went well.
    """

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func) -> None:
        type_ = function.type(store)
        self._params: Any = (ffi.wasmtime_val_t * len(type_.params))()
        self._results: Any = (ffi.wasmtime_val_t * len(type_.results))()
        for value in self._params:
            value.kind = ffi.WASMTIME_I32
        self._function = function
        self._context = store._context()

    def __call__(self, args: tuple[int, ...]) -> int:
        if len(args) != len(self._params):
            raise TypeError(f"{len(self._params)} arguments wanted, {len(args)} given")
        for value, arg in zip(self._params, args, strict=True):
            value.of.i32 = arg
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = None
        try:
            error = ffi.wasmtime_func_call(
                self._context,
                ctypes.byref(self._function._func),
                self._params,
                len(self._params),
                self._results,
                len(self._results),
                ctypes.byref(trap),
            )
        finally:
            if trap:
                raise wasmtime.Trap._from_ptr(trap)
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        return self._results[0].of.i32 if len(self._results) else 0


class WasmtimeGuest(Hosted):
    """A fresh instance of llama.wasm that can read one file. See :class:`~.abi.Guest`."""

    failures = (wasmtime.Trap, wasmtime.WasmtimeError)

    def __init__(
        self, wasm: Path, file: GuestFile, memory_limit: int, cache: CompiledCache | None = None
    ) -> None:
        """Instantiate.

        Args:
            wasm: the module.
            file: the one file the guest may read.
            memory_limit: most bytes of linear memory.
            cache: of compiled code; the user's own by default.

        Raises:
            BackendUnavailable: the module cannot be used here.
            OutOfMemory: the limit leaves no room even for the module itself.
            EngineError: its start failed.
        """
        engine, module = compiled_module(wasm, cache)
        _check_room(module, file, memory_limit)
        self.version = f"wasmtime {metadata.version('wasmtime')}"
        super().__init__(file)
        self._life = threading.RLock()  # only between flag writes and close; never held during work
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=memory_limit)
        try:
            self._instantiate(engine, module)
        except self.failures as error:
            self.close()
            raise EngineError(f"llama.wasm could not be started: {self._words(error)}") from error
        except BaseException:
            self.close()
            raise

    def _instantiate(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        linker.allow_shadowing = True
        self._store.set_wasi(wasmtime.WasiConfig())
        imports = self.world.imports()
        stop = wasmtime.Instance(self._store, wasmtime.Module(engine, _NEVER), [])
        linker.define(self._store, "lb_host", "stop", stop.exports(self._store)["stop"])
        for wanted in module.imports:
            name = wanted.name or ""
            if (
                wanted.module == WASI
                and isinstance(wanted.type, wasmtime.FuncType)
                and name not in _FROM_WASMTIME
            ):
                function = imports.get(name, self.world.unknown)
                linker.define_func(wanted.module, name, wanted.type, function)
        instance = linker.instantiate(self._store, module)
        exports: dict[str, Any] = {
            e.name: instance.exports(self._store)[e.name] for e in module.exports
        }
        self._memory: wasmtime.Memory = exports["memory"]
        self._exports = {
            name: _Export(self._store, item)
            for name, item in exports.items()
            if isinstance(item, wasmtime.Func)
        }
        self._begin()

    # the Guest protocol

    @property
    def memory_size(self) -> int:
        self._check_open()
        return self._memory.data_len(self._store)

    def _run(self, name: str, args: tuple[int, ...]) -> int:
        return self._exports[name](args)

    def _words(self, error: Exception) -> str:
        """The first line of wasmtime's message without its stack of numbered functions."""
        text = error.message if isinstance(error, wasmtime.Trap) else str(error)
        lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
        return next((line for line in lines if "trap:" in line), lines[0])

    def read(self, pointer: int, size: int) -> bytearray:
        return bytearray(self._view(pointer, size))

    def write(self, pointer: int, data: bytes) -> None:
        self._view(pointer, len(data))[:] = data

    def fill(self, pointer: int, size: int, file: BinaryIO) -> int:
        target, done = self._view(pointer, size), 0
        while done < size:  # the system may read less than asked, 2 GB at most
            n = cast("io.FileIO", file).readinto(target[done:])
            if not n:
                break
            done += n
        return done

    def flag(self, pointer: int) -> Callable[[int], None]:
        self._view(pointer, 4)
        base = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        cell = ctypes.c_int32.from_address(base + pointer)

        def write(value: int) -> None:
            with self._life:
                if not self._closed:
                    cell.value = value

        return write

    def clear_stop(self) -> None:
        pass  # flag() is the one way here

    def pause(self) -> None:
        pass  # others have threads of their own

    chunk = 1 << 16

    def close(self) -> None:
        with self._life:
            if self._closed:
                return
            self._closed = True
            self._exports = {}
            self._store.close()
        self.world.close()

    # inside

    def _view(self, pointer: int, size: int) -> memoryview:
        self._check_open()
        if pointer < 0 or size < 0 or pointer + size > self._memory.data_len(self._store):
            raise IndexError(f"{size} bytes at {pointer} are outside the guest's memory")
        return memoryview(self._memory.get_buffer_ptr(self._store, size, pointer)).cast("B")


def _check_room(module: wasmtime.Module, file: GuestFile, limit: int) -> None:
    memories = [e.type for e in module.exports if isinstance(e.type, wasmtime.MemoryType)]
    needed = sum(memory.limits.min << 16 for memory in memories)
    check_room(needed, file.path, limit)
