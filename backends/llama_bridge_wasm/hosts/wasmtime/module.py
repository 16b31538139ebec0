"""llama.wasm as machine code for wasmtime: compiled once, kept for all processes of this user."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import wasmtime

from llama_bridge.errors import BackendUnavailable

from ..linear_memory import MemoryImport, find_memory, unshared
from .compiled_cache import CompiledCache, cache_key, default_folder

__all__ = ["Compiled", "compiled_module"]

_CONFIG = "exceptions,simd,relaxed_simd,threads,fixed_memory"

_log = logging.getLogger("llama_bridge.wasm.compile")
_compiling = threading.Lock()
_modules: dict[str, Compiled] = {}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code, and the memory it wants."""

    engine: wasmtime.Engine
    module: wasmtime.Module
    memory: MemoryImport


def compiled_module(
    path: Path, cache: CompiledCache | None = None, *, shared: bool = True
) -> Compiled:
    """The module at ``path`` as machine code: of this process, from the cache, or compiled (seconds).

    Args:
        path: of llama.wasm.
        cache: of compiled code; the user's own by default.
        shared: for a memory that threads can share.

    Raises:
        BackendUnavailable: it cannot be read, or wasmtime refuses it.
    """
    try:
        code = path.read_bytes()
    except OSError as error:
        raise BackendUnavailable("wasm", f"{path} cannot be read: {error}") from error
    try:
        memory = find_memory(code)
    except ValueError as error:
        raise BackendUnavailable("wasm", f"wasmtime refuses {path}: {error}") from error
    code = code if shared else unshared(code)
    key = cache_key(code, metadata.version("wasmtime"), _CONFIG)
    with _compiling:
        if key not in _modules:
            try:
                engine, module = _load_or_compile(
                    code, key, cache or CompiledCache(default_folder())
                )
            except wasmtime.WasmtimeError as error:
                raise BackendUnavailable("wasm", f"wasmtime refuses {path}: {error}") from error
            _modules[key] = Compiled(engine, module, memory)
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
    config.wasm_threads = True
    config.shared_memory = True
    config.memory_may_move = False  # its address is kept
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
