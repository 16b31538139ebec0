"""The backend that the bridge finds: is it usable, and loading a model with it."""

from __future__ import annotations

import sys
from pathlib import Path

from llama_bridge.engine import Availability, Backend
from llama_bridge.errors import BackendUnavailable
from llama_bridge.models import ModelFile
from llama_bridge.params import ModelParams
from llama_bridge.sanity import check_model

from .artifact import BUILD_HINT, DEFAULT_PATH, read_artifact
from .engine import CAPABILITIES, NAME, WasmEngine

__all__ = ["WasmBackend"]

_WASMTIME = "50"
_INSTALL_HINT = f'pip install "wasmtime>={_WASMTIME},<{int(_WASMTIME) + 1}"'


class WasmBackend(Backend):
    """llama.cpp in a WebAssembly sandbox."""

    name = NAME
    rank = 10
    capabilities = CAPABILITIES

    def __init__(self, wasm: Path = DEFAULT_PATH) -> None:
        self._wasm = wasm

    def probe(self) -> Availability:
        """Looks for wasmtime and llama.wasm; imports and compiles nothing."""
        if sys.platform == "emscripten":
            return Availability(NAME, False, "wasmtime does not run in a browser")
        from importlib import metadata  # costs 20 ms: only when a backend is looked for

        try:
            version = metadata.version("wasmtime")
        except metadata.PackageNotFoundError:
            return Availability(NAME, False, "wasmtime is not installed", _INSTALL_HINT)
        if version.partition(".")[0] != _WASMTIME:
            reason = f"wasmtime {version} is installed, but {_WASMTIME}.x is needed"
            return Availability(NAME, False, reason, _INSTALL_HINT)
        artifact = read_artifact(self._wasm)
        if artifact is None:
            return Availability(NAME, False, "llama.wasm is not built", BUILD_HINT)
        return Availability(
            NAME, True, version=f"llama.cpp {artifact.llama_cpp}, wasmtime {version}"
        )

    def load(self, model: ModelFile, params: ModelParams) -> WasmEngine:
        """Load a model into a new sandbox. See :meth:`Backend.load`."""
        available = self.probe()
        if not available.ok:
            raise BackendUnavailable(NAME, available.reason, available.hint)
        check_model(model, params)
        try:
            from .host_wasmtime import WasmtimeGuest
        except (ImportError, OSError) as error:
            raise BackendUnavailable(NAME, f"wasmtime does not work here: {error}") from error
        guest = WasmtimeGuest(self._wasm, model.path, params.memory_limit)
        return WasmEngine.load(guest, model, params, available.version)
