"""The backend that the bridge finds: checks whether it is usable, and loads models with it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from llama_bridge.capabilities import Capability
from llama_bridge.errors import BackendUnavailable
from llama_bridge.local.cores import compute_threads
from llama_bridge.local.engine_backend import EngineBackend
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import ModelFile
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress
from llama_bridge.runtime import Availability
from llama_bridge.system_memory import system_memory

from .abi import Guest
from .artifact import BUILD_HINT, DEFAULT_PATH, read_artifact
from .engine.fit import check_fit, settle
from .engine.reading import Reading
from .engine.wasm_engine import CAPABILITIES, NAME, WasmEngine
from .hosts.hosted import open_guest
from .hosts.wasi import GuestFile

__all__ = ["WasmBackend"]

_BROWSER = "the browser's engine"
_WASMTIME = "50"
_INSTALL_HINT = f'pip install "wasmtime>={_WASMTIME},<{int(_WASMTIME) + 1}"'
_LIBRARIES = ("*/*wasmtime.so", "*/*wasmtime.dylib", "*/*wasmtime.dll")
_PLATFORMS = (
    "The wasm backend runs on x86-64 and ARM64 with Linux, macOS or Windows, on ARM64 Android, and in pages (Pyodide), "
    "with a 64-bit Python"
)


class WasmBackend(EngineBackend):
    """llama.cpp in a WebAssembly sandbox."""

    name = NAME
    rank = 10
    capabilities = CAPABILITIES | Capability.THREADS  # if the host has them

    def __init__(self, wasm: Path = DEFAULT_PATH) -> None:
        self._wasm = wasm

    def probe(self) -> Availability:
        """Looks for a host and for llama.wasm, without importing or compiling anything."""
        host = _BROWSER if sys.platform == "emscripten" else _wasmtime()
        if isinstance(host, Availability):
            return host
        artifact = read_artifact(self._wasm)
        if artifact is None:
            return Availability(NAME, False, "llama.wasm is not built", BUILD_HINT)
        return Availability(NAME, True, version=f"llama.cpp {artifact.llama_cpp}, {host}")

    def load(
        self, model: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> WasmEngine:
        """Load a model into a new sandbox. See :meth:`EngineBackend.load`."""
        available = self.probe()
        if not available.ok:
            raise BackendUnavailable(NAME, available.reason, available.hint)
        check_model(model, params)
        memory = system_memory()
        params = settle(model, params, memory)
        check_fit(model, params, memory)
        check_tokenizer(model)
        size = model.header.file_size
        reading = Reading(size, on_progress)
        on_read = None if on_progress is None else reading.add
        guest = self._guest(_lent(model.files, on_read), size, params, on_progress)
        return WasmEngine.load(guest, model, params, available.version, reading)

    def _guest(
        self, file: GuestFile, size: int, params: ModelParams, on_progress: OnProgress | None
    ) -> Guest:
        wasm, limit = self._wasm, params.memory_limit
        # Hosts are imported only here: a desktop has no js, a page has no wasmtime.
        if sys.platform == "emscripten":
            from .hosts.browser import threads as page_threads
            from .hosts.browser.guest import BrowserGuest

            wanted = compute_threads(params, size, page_threads.cores())
            threads = page_threads.available(wanted)
            if threads == 1:
                return BrowserGuest(wasm, file, limit, on_progress=on_progress)
            return open_guest(
                lambda shared: BrowserGuest(
                    wasm, file, limit, shared=shared, on_progress=on_progress
                ),
                threads,
            )
        try:
            from .hosts.wasmtime.guest import WasmtimeGuest
        except Exception as error:  # a missing or foreign shared library raises anything
            raise BackendUnavailable(
                NAME, f"wasmtime does not work here: {error}", _PLATFORMS
            ) from error
        return open_guest(
            lambda shared: WasmtimeGuest(wasm, file, limit, shared=shared, on_progress=on_progress),
            compute_threads(params, size),
        )


def _lent(files: Sequence[ModelFile], on_read: Callable[[int], object] | None) -> GuestFile:
    """The files of a model, for the guest. It reads them straight into its memory."""
    first, *more = (GuestFile(f.open, f.header.file_size, f.path, on_read) for f in files)
    return replace(first, more=tuple(more))


def _wasmtime() -> str | Availability:
    """Name and version of the host on a desktop, or why there is none."""
    from importlib import metadata  # costs 20 ms: only when looking for a backend

    try:
        version = metadata.version("wasmtime")
    except metadata.PackageNotFoundError:
        return Availability(NAME, False, "wasmtime is not installed", _INSTALL_HINT)
    if version.partition(".")[0] != _WASMTIME:
        reason = f"wasmtime {version} is installed, but {_WASMTIME}.x is needed"
        return Availability(NAME, False, reason, _INSTALL_HINT)
    if not _has_library():
        # If no wheel fits, pip installs one without a library, and importing it raises.
        reason = f"wasmtime {version} has no library for this platform ({sys.platform})"
        return Availability(NAME, False, reason, _PLATFORMS)
    return f"wasmtime {version}"


def _has_library() -> bool:
    """Whether wasmtime can be imported here. This check takes 1 ms, the import 60 ms."""
    package = importlib.util.find_spec("wasmtime")
    if package is None or package.origin is None or sys.maxsize < 1 << 32:
        return False
    folder = Path(package.origin).parent
    return any(any(folder.glob(pattern)) for pattern in _LIBRARIES)
