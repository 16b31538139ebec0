"""Which model a bridge's arguments mean, and what each backend gets of it: a server's address, or a model to load."""

from __future__ import annotations

from collections.abc import Sequence

from .checks import shown
from .errors import InvalidInput
from .runtime import Backend, Model, ServedModel

__all__ = ["check_served", "meant", "model_for"]


def meant(source: Model | None, model: Model | None) -> Model | None:
    """The model that a constructor's two arguments mean.

    Raises:
        InvalidInput: both are given, but the first is no server's address.
    """
    if source is None or model is None:
        return model if source is None else source
    if not isinstance(source, str) or isinstance(model, ServedModel):
        raise InvalidInput(
            f"model={shown(model)} goes with a server's address, not with {shown(source)}"
        )
    return ServedModel(source, model)


def model_for(backend: Backend, model: Model) -> Model:
    """The model as a backend takes it."""
    return model.model if isinstance(model, ServedModel) and not backend.asks_servers else model


def check_served(backends: Sequence[Backend], model: Model) -> None:
    """Refuse a model on a server where none is asked, and a server without a model where one may have to be loaded.

    Raises:
        InvalidInput.
    """
    local = [backend for backend in backends if not backend.asks_servers]
    if isinstance(model, ServedModel):
        if len(local) == len(backends):
            raise InvalidInput(
                f"{shown(model.server)} is the address of a server, and the {backends[0].name} backend asks none: give "
                'backend="remote", or the model alone'
            )
    elif (
        0 < len(local) < len(backends)
        and isinstance(model, str)
        and model.lower().startswith(("http://", "https://"))
    ):
        raise InvalidInput(
            f"model is missing: {shown(model)} is the server's address, and the {local[0].name} backend loads a model "
            "itself"
        )
