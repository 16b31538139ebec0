"""A backend whose models run token by token: it loads an engine, and the runtime over it is written here."""

from __future__ import annotations

from abc import abstractmethod

from ..capabilities import Capability
from ..engine import Engine
from ..models.source import ModelFile, open_model
from ..params import ModelParams
from ..progress import OnProgress
from ..runtime import Backend, Model, Runtime, SessionStorage
from .local_runtime import LocalRuntime, prepare_files

__all__ = ["EngineBackend"]


class EngineBackend(Backend):
    """What native, wasm and third parties with an engine subclass: they write :meth:`load` and :meth:`probe`."""

    @abstractmethod
    def load(
        self, model: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> Engine:
        """Load a model.

        Args:
            model: a checked GGUF file.
            params: load-time settings.
            on_progress: told of the stages ``"compile"`` and ``"load"``, as far as they can be seen. What it
                raises ends the load.

        Raises:
            BackendUnavailable, InvalidModel, ModelLoadError, OutOfMemory, EngineError.
        """

    def check(self, model: Model) -> None:
        """See :meth:`Backend.check`."""
        open_model(model)

    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        """See :meth:`Backend.open`."""
        file = open_model(model)
        engine = self.load(file, params, on_progress)
        if Capability.SESSION_PERSISTENCE in engine.capabilities:
            prepare_files()
        return LocalRuntime(engine, file, storage)
