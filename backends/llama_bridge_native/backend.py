"""Finds llama-cpp-python without importing it, and loads models with it."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata

from llama_bridge.capabilities import Capability
from llama_bridge.engine import Engine
from llama_bridge.errors import BackendUnavailable, BridgeError, InvalidInput
from llama_bridge.local.engine_backend import EngineBackend
from llama_bridge.models.fitting import Gpu
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import ModelFile
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress
from llama_bridge.runtime import Availability
from llama_bridge.system_memory import system_memory

from .fit import check_fit, settle

__all__ = ["BACKEND", "NativeBackend"]

_REQUIRED = "0.3.36"
_HINT = 'pip install "llama-bridge[native]"    (compiles llama.cpp: needs a C and a C++ compiler)'


class NativeBackend(EngineBackend):
    """llama.cpp as a native library."""

    name = "native"
    rank = 100
    capabilities = (
        Capability.GENERATE
        | Capability.STREAM
        | Capability.CANCEL
        | Capability.JSON_SCHEMA
        | Capability.LOGPROBS
        | Capability.CHAT_TEMPLATE
        | Capability.TOOLS
        | Capability.TOKENS
        | Capability.KV_CONTINUATION
        | Capability.PREFIX_CACHE
        | Capability.SESSION_PERSISTENCE
        | Capability.SESSION_TOOLS
        | Capability.THREADS
        | Capability.GPU_OFFLOAD
        | Capability.EMBEDDINGS
        | Capability.RERANK
        | Capability.ADAPTERS
        | Capability.PARALLEL
    )

    def probe(self) -> Availability:
        """Looks for the package and its version; the first model loads the library itself."""
        if sys.platform == "emscripten":
            return Availability(self.name, False, "a page cannot run it")
        try:
            version = metadata.version("llama-cpp-python")
        except metadata.PackageNotFoundError:
            return Availability(self.name, False, "llama-cpp-python is not installed", _HINT)
        if importlib.util.find_spec("llama_cpp") is None:
            return Availability(
                self.name, False, "llama-cpp-python is damaged: its module is missing", _HINT
            )
        shown = f"llama-cpp-python {version}"
        if version != _REQUIRED:
            # Its ctypes structures match one llama.cpp; with another they would corrupt memory.
            reason = f"llama-cpp-python {version} is installed, but {_REQUIRED} is needed"
            return Availability(self.name, False, reason, _HINT, shown)
        return Availability(self.name, True, version=shown)

    def load(
        self, model: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> Engine:
        """Load a model. The first call also loads the library, which takes about a quarter of a second."""
        availability = self.probe()
        if not availability.ok:
            raise BackendUnavailable(self.name, availability.reason, availability.hint)
        if model.source is not None:
            raise InvalidInput(
                f"{model.name}: the native backend loads only files; give the path of one"
            )
        check_model(model, params)
        memory = system_memory()
        gpus: tuple[Gpu, ...] = ()
        try:
            from . import devices  # loads the shared library: 220 ms
            from .opening import open_engine

            devices.refuse_fork()
            if params.n_gpu_layers != 0:
                gpus = devices.gpus()
            params = settle(model, params, memory, gpus)
            check_fit(model, params, memory, gpus)
            check_tokenizer(model)
        except BridgeError:
            raise
        except Exception as error:  # a missing or foreign shared library raises anything
            raise BackendUnavailable(
                self.name, f"llama-cpp-python cannot be loaded: {error}", _HINT
            ) from error
        return open_engine(model, params, on_progress)


BACKEND = NativeBackend()
