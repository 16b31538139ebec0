"""A backend with an engine that works on tokens. It loads the engine; this package is the runtime over it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence

from ..capabilities import Capability
from ..checks import shown
from ..engine import Engine
from ..errors import InvalidInput
from ..hub.find import find_model
from ..models.adapter import AdapterFile, open_adapter
from ..models.source import ModelFile, ModelSource, open_model
from ..params import ModelParams
from ..progress import OnProgress
from ..runtime import Backend, Model, Runtime, ServedModel, SessionStorage
from .local_runtime import LocalRuntime, prepare_files

__all__ = ["EngineBackend"]


class EngineBackend(Backend):
    """Base class of native, wasm and any backend with an engine. Implement :meth:`load` and :meth:`probe`."""

    @abstractmethod
    def load(
        self, model: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> Engine:
        """Load a model.

        Args:
            model: a checked GGUF file.
            params: load-time settings. "auto" is a number in ``params.context_length()`` and ``params.asked_gpu_layers``; a
                backend that knows its memory can do better, by :mod:`llama_bridge.models.fitting`.
            on_progress: called with the progress of ``"compile"`` and ``"load"``, as far as it is known. An exception
                that it raises ends the load.

        Raises:
            BackendUnavailable, InvalidModel, ModelLoadError, OutOfMemory, EngineError.
        """

    def check(self, model: Model, on_progress: OnProgress | None = None) -> None:
        """See :meth:`Backend.check`."""
        open_model(find_model(_here(model), on_progress))

    def check_adapters(self, model: Model, adapters: Sequence[tuple[AdapterFile, float]]) -> None:
        """See :meth:`Backend.check_adapters`."""
        from ..models.adapter_preflight import check_adapter  # 3 ms with the header, as above

        file = open_model(find_model(_here(model)))
        for given, _ in adapters:
            check_adapter(open_adapter(find_model(given)), file)

    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        """See :meth:`Backend.open`."""
        file = open_model(find_model(_here(model), on_progress))
        engine = self.load(file, params, on_progress)
        if Capability.SESSION_PERSISTENCE in engine.capabilities:
            prepare_files(file)
        return LocalRuntime(engine, file, storage, params.max_waiting)


def _here(model: Model) -> str | os.PathLike[str] | ModelSource:
    """A model that can be loaded here.

    Raises:
        InvalidInput: it is on a server.
    """
    if isinstance(model, ServedModel):
        raise InvalidInput(
            f"{shown(model.server)} is the address of a server, which only the remote backend asks"
        )
    return model
