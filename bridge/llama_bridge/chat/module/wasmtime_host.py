"""chat.wasm on wasmtime: bounded in memory and time."""

# The raw C interface is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import cast

import wasmtime

from ...errors import BackendUnavailable
from ...later_signals import LaterSignals
from ...on_wasmtime.compiled_cache import CompiledCache, cache_key, default_folder
from ...on_wasmtime.prepared_call import FAILURES, PreparedCall, words
from .deadline import Watch
from .host import ABI_VERSION, InstanceLost

__all__ = ["WasmtimeHost"]

_MEMORY = 256 << 20
_CONFIG = "exceptions,epochs,fixed_memory"
_MOST_IDLE = 4
_log = logging.getLogger("llama_bridge.chat")


@dataclass(frozen=True, slots=True)
class _Machine:
    """chat.wasm as machine code. An instance has one for itself: an epoch ends all calls of an engine."""

    engine: wasmtime.Engine
    module: wasmtime.Module


class _Process:
    """What the instances of one process share."""

    def __init__(self, *, forked: bool) -> None:
        self.forked = forked
        self.lock = threading.Lock()
        self.watch = Watch()
        self.code: dict[Path, bytearray] = {}
        self.idle: dict[Path, list[_Machine]] = {}


_process = _Process(forked=False)
_left_behind: list[_Process] = []


def _after_fork() -> None:
    """A fork has no thread that watches, another one may have held the lock, and wasmtime's compiler waits for ever."""
    global _process
    _left_behind.append(_process)
    _process = _Process(forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_MORE = "more address space: 640 MiB for chat.wasm (ulimit -v unlimited, or RLIMIT_AS)"


class WasmtimeHost:
    """An instance in a store of its own. See :class:`~.host.Host`."""

    def __init__(self, path: Path) -> None:
        # Python's wasmtime frees things twice if an interrupt comes between two of its lines.
        with LaterSignals():
            self._start(path)

    def _start(self, path: Path) -> None:
        self._path, self._process = path, _process
        self._machine = _machine(path)
        store = self._store = wasmtime.Store(self._machine.engine)
        store.set_limits(memory_size=_MEMORY)
        store.set_epoch_deadline(1)
        try:
            module = self._machine.module
            exports = wasmtime.Instance(store, module, []).exports(store)
            self._memory = memory = cast("wasmtime.Memory", exports["memory"])
            self._calls = {
                export.name: PreparedCall(store, exports[export.name])
                for export in module.exports
                if isinstance(export.type, wasmtime.FuncType)
            }
            self._calls["_initialize"](())
            found = self._calls["lb_chat_abi_version"](())
        except FAILURES as error:
            why = words(error)
            raise BackendUnavailable(
                "chat", f"chat.wasm cannot be started: {why}", _MORE if "mmap" in why else ""
            ) from error
        if found != ABI_VERSION:
            raise BackendUnavailable(
                "chat", f"chat.wasm has ABI {found}, not {ABI_VERSION}", "python wasm/build.py"
            )
        # It never moves: memory_may_move is off.
        self._base = ctypes.addressof(memory.data_ptr(store).contents)

    def call(self, name: str, argument: bytes, seconds: float) -> bytes:
        """See :class:`~.host.Host`."""
        size, watch = len(argument), self._process.watch
        try:
            self._store.set_epoch_deadline(1)
            watch.begin(self, seconds, self._machine.engine.increment_epoch)
            pointer = self._calls["lb_chat_input"]((_signed(size),)) & 0xFFFFFFFF
            if not pointer:
                raise InstanceLost("no memory for the messages")
            ctypes.memmove(self._at(pointer, size), argument, size)
            answer = self._calls[name]((_signed(size),)) & 0xFFFFFFFF
        except FAILURES as error:
            raise InstanceLost(words(error)) from error
        finally:
            watch.done(self)
        length = int.from_bytes(ctypes.string_at(self._at(answer, 4), 4), "little")
        return ctypes.string_at(self._at(answer + 4, length), length)

    def release(self, parser: int) -> None:
        """See :class:`~.host.Host`."""
        try:
            self._store.set_epoch_deadline(1)
            self._calls["lb_chat_release"]((_signed(parser),))
        except FAILURES as error:
            raise InstanceLost(words(error)) from error

    @property
    def memory_size(self) -> int:
        """See :class:`~.host.Host`."""
        return int(self._memory.data_len(self._store))

    def close(self) -> None:
        """See :class:`~.host.Host`."""
        if not self._calls:
            return
        self._calls = {}
        with LaterSignals():
            self._store.close()
        idle = self._process.idle.setdefault(self._path, [])
        if len(idle) < _MOST_IDLE:
            idle.append(self._machine)

    def _at(self, pointer: int, size: int) -> int:
        """An address, if the guest has so many bytes there. What runs in it may be somebody else's by now."""
        if pointer + size > self.memory_size:
            raise InstanceLost("it answered with an address outside of its memory")
        return self._base + pointer


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _machine(path: Path) -> _Machine:
    """The module as machine code: from this process, from the cache, or compiled (a second or two).

    Raises:
        BackendUnavailable: it cannot be read, or wasmtime refuses it.
    """
    process = _process
    with process.lock:
        if idle := process.idle.get(path):
            return idle.pop()
        try:
            engine = _engine(parallel=not process.forked)
            return _Machine(engine, _module(engine, process, path))
        except (OSError, *FAILURES) as error:
            raise BackendUnavailable("chat", f"{path} cannot be used: {error}") from error


def _engine(*, parallel: bool) -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.epoch_interruption = True  # costs some 15 %: a template is not trusted
    config.memory_may_move = False
    config.memory_reservation = _MEMORY
    config.parallel_compilation = parallel
    return wasmtime.Engine(config)


def _module(engine: wasmtime.Engine, process: _Process, path: Path) -> wasmtime.Module:
    if path in process.code:
        return wasmtime.Module.deserialize(engine, process.code[path])
    code = path.read_bytes()
    key = cache_key(code, metadata.version("wasmtime"), _CONFIG)
    cache = CompiledCache(default_folder())
    if (cached := cache.find(key)) is not None:
        try:
            return wasmtime.Module.deserialize_file(engine, str(cached))
        except wasmtime.WasmtimeError:
            cache.discard(cached)
    clock = time.perf_counter()
    module = wasmtime.Module(engine, code)
    _log.info(
        "compiled chat.wasm in %.1f s: once per user and version", time.perf_counter() - clock
    )
    serialized = module.serialize()
    cache.store(key, serialized)
    if cache.find(key) is None:  # there is no folder for it: keep it here
        process.code[path] = serialized
    return module
