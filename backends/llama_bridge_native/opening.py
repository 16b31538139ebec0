"""Opens a model: loads its weights, makes its context, and gives both to the engine that it needs."""

from __future__ import annotations

from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress

from .encoder_engine import NativeEncoder
from .engine import NativeEngine
from .library import LoggedErrors, lib
from .loading import is_encoder, load_context, load_weights

__all__ = ["open_engine"]


def open_engine(
    file: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
) -> NativeEngine:
    """Load a model.

    Raises:
        ModelLoadError, OutOfMemory: with llama.cpp's own message.
    """
    model = context = None
    with LoggedErrors() as errors:
        try:
            model = load_weights(file, params, errors, on_progress)
            context = load_context(model, file, params, errors)
            kind = NativeEngine
            if is_encoder(model, context, file):
                kind, large, context = NativeEncoder, context, None
                lib.llama_free(large)
                context = load_context(model, file, params, errors, least=True)
            engine = kind(model, context, file, params)
            errors.reraise()
            return engine
        except BaseException:
            if context is not None:
                lib.llama_free(context)
            if model is not None:
                lib.llama_model_free(model)
            raise
