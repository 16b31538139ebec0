"""llama.wasm as machine code for wasmtime: compiled once, and kept for all processes of this user."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import wasmtime

from llama_bridge.errors import BackendUnavailable
from llama_bridge.on_wasmtime.compiled_cache import CompiledCache, cache_key, default_folder
from llama_bridge.progress import OnProgress

from ..hosted import tell_compile
from ..linear_memory import MemoryImport, find_memory, unshared

__all__ = ["Compiled", "compiled_module"]

_CONFIG = "exceptions,simd,relaxed_simd,threads,fixed_memory"

_log = logging.getLogger("llama_bridge.wasm.compile")
_compiling = threading.RLock()  # held while on_progress is called, which may load another model
_modules: dict[str, Compiled] = {}
_process: int | None = None  # the one that used wasmtime first


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code, and the memory it imports."""

    engine: wasmtime.Engine
    module: wasmtime.Module
    memory: MemoryImport


def compiled_module(
    path: Path,
    cache: CompiledCache | None = None,
    *,
    shared: bool = True,
    on_progress: OnProgress | None = None,
) -> Compiled:
    """Return the module at ``path`` as machine code: from this process, from the cache, or compiled (seconds).

    Args:
        path: path of llama.wasm.
        cache: cache of compiled code; by default the user's own.
        shared: for a memory that threads can share.
        on_progress: called for the stage ``"compile"``, if it has to compile.

    Raises:
        BackendUnavailable: it cannot be read, or wasmtime refuses it.
    """
    try:
        code = path.read_bytes()
    except OSError as error:
        raise BackendUnavailable("wasm", f"{path} cannot be read: {error}") from error
    with _refusals(path):
        memory = find_memory(code)
    code = code if shared else unshared(code)
    key = cache_key(code, metadata.version("wasmtime"), _CONFIG)
    _refuse_fork()
    with _compiling:
        if key in _modules:
            return _modules[key]
        cache = cache or CompiledCache(default_folder())
        with _refusals(path):
            engine = _engine()
            module = _cached(engine, key, cache)
        if module is not None:
            compiled = _modules[key] = Compiled(engine, module, memory)
            return compiled
        tell_compile(on_progress, 0, len(code))
        with _refusals(path):
            module = _compile(engine, code)
            cache.store(key, module.serialize())
        _trim()
        compiled = _modules[key] = Compiled(engine, module, memory)
        tell_compile(on_progress, len(code), len(code))
        return compiled


def _refuse_fork() -> None:
    """Raise in a fork: it lacks the threads of wasmtime's compiler, and would wait for them forever."""
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise BackendUnavailable(
            "wasm",
            "this process was forked from one that used wasmtime, which does not survive a fork",
            'start a new process instead: multiprocessing.get_context("spawn"), or "forkserver"',
        )


@contextlib.contextmanager
def _refusals(path: Path) -> Generator[None]:
    """Turn wasmtime's errors into ours."""
    try:
        yield
    except (ValueError, wasmtime.WasmtimeError) as error:
        raise BackendUnavailable("wasm", f"wasmtime refuses {path}: {error}") from error


def _engine() -> wasmtime.Engine:
    # Defaults kept on purpose: a 4 GiB reservation (without it, bounds checks cost 18 to 42 %), no epochs and
    # no fuel (they cost 23 to 38 %). A flag in guest memory cancels instead.
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.wasm_simd = True
    config.wasm_relaxed_simd = True
    config.wasm_threads = True
    config.shared_memory = True
    config.memory_may_move = False  # its address is kept
    return wasmtime.Engine(config)


def _cached(engine: wasmtime.Engine, key: str, cache: CompiledCache) -> wasmtime.Module | None:
    if (cached := cache.find(key)) is not None:
        try:
            return wasmtime.Module.deserialize_file(engine, str(cached))
        except wasmtime.WasmtimeError:
            cache.discard(cached)
    return None


def _compile(engine: wasmtime.Engine, code: bytes) -> wasmtime.Module:
    _log.info("compiling llama.wasm to machine code: a few seconds, once per user and version")
    clock = time.perf_counter()
    module = wasmtime.Module(engine, code)
    _log.info("compiled llama.wasm in %.1f s", time.perf_counter() - clock)
    return module


def _trim() -> None:
    """Return the compiler's freed memory to the system: 100 MB that this process would otherwise keep. glibc only."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
