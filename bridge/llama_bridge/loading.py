"""Loads models for one bridge: on which backend, with what, and which one takes over if a server is gone."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import registry
from .capabilities import Capability
from .chat.message import Message
from .checks import shown
from .conversation import Shared, warn_outside
from .errors import (
    BackendUnavailable,
    ClosedError,
    InvalidInput,
    ServerGone,
    UnsupportedCapability,
)
from .models.adapter import AdapterFile
from .params import ModelParams, ModelSettings, override
from .progress import OnProgress
from .refusal import refuse
from .runtime import Backend, Model, Runtime, SessionStorage
from .served_model import check_served, model_for

__all__ = ["Loader", "chosen"]

_log = logging.getLogger(__name__)


def chosen(base: ModelParams, params: ModelParams | None, settings: ModelSettings) -> ModelParams:
    """The settings of a load: single ones over ``params``, or over ``base`` without any."""
    if params is None:
        params = base
    if not isinstance(params, ModelParams):
        raise InvalidInput(
            f"params={shown(params)}: give a ModelParams (sampling settings belong in sampling=)"
        )
    return override(params, settings)


class Loader:
    """Loads models, one at a time in use.

    Args:
        shared: where the runtime in use is kept.
        choice: which backends may be taken.
        storage: where conversations are kept while they do not have the KV cache.
        untrusted: whether to take only backends with a sandbox.
        failover: whether the next backend takes over from one whose server is gone.
    """

    def __init__(
        self,
        shared: Shared,
        choice: registry.Choice,
        storage: SessionStorage,
        *,
        untrusted: bool,
        failover: bool,
    ) -> None:
        self._shared = shared
        self._choice = choice
        self._storage = storage
        self._untrusted = untrusted
        self._rest: _Rest | None = None
        if failover:
            weak = weakref.WeakMethod(self._fail_over)  # a bridge that is dropped is freed at once

            def fail_over(gone: Runtime, error: ServerGone) -> None:
                if (owned := weak()) is None:
                    raise error
                owned(gone, error)

            shared.fail_over = fail_over

    def load(
        self,
        model: Model,
        params: ModelParams,
        adapters: Sequence[tuple[AdapterFile, float]],
        on_progress: OnProgress | None,
        *,
        unload_first: bool,
    ) -> None:
        """Load a model in place of the one in use; see :meth:`LlamaBridge.load_model`."""
        shared = self._shared
        if shared.closed:
            raise ClosedError("this LlamaBridge is closed: make a new one")
        choose = registry.sandboxes if self._untrusted else registry.candidates
        backends = choose(self._choice)
        check_served(backends, model)
        if unload_first:
            backends[0].check(model_for(backends[0], model), on_progress)
        if adapters:
            if Capability.ADAPTERS not in backends[0].capabilities:
                where = registry.available_in(Capability.ADAPTERS)
                raise UnsupportedCapability(Capability.ADAPTERS, backends[0].name, where)
            backends[0].check_adapters(model_for(backends[0], model), adapters)
        if unload_first:
            self._replace(None)
        runtime = self._open(backends, model, params, on_progress)
        try:
            if adapters:
                refuse(runtime, Capability.ADAPTERS)
                runtime.set_adapters(adapters)
            if self._storage.folder is not None:
                refuse(runtime, Capability.SESSION_PERSISTENCE)
            self._replace(runtime)
        except BaseException:
            if shared.runtime is not runtime:
                runtime.close()
            raise

    def _open(
        self,
        backends: Sequence[Backend],
        model: Model,
        params: ModelParams,
        on_progress: OnProgress | None,
    ) -> Runtime:
        """Open the model with the first backend that works."""
        for i, backend in enumerate(backends):
            try:
                runtime = backend.open(
                    model_for(backend, model), params, self._storage, on_progress
                )
                rest = backends[i + 1 :]
                self._rest = _Rest(rest, model, params, on_progress) if rest else None
                runtime.untrusted = self._untrusted
                return runtime
            except BackendUnavailable as error:
                # It looked available but is not, because of a broken shared library, say: try the next and log it.
                if i + 1 == len(backends):
                    raise
                _log.warning("%s; trying the next backend", error)
        raise AssertionError("candidates() is never empty")

    def _fail_over(self, gone: Runtime, error: ServerGone) -> None:
        """Have the next backend take over.

        Raises:
            ServerGone: there is none, or a conversation has no messages that it could go on from.
            BridgeError: the next one cannot load the model.
        """
        shared = self._shared
        with shared.swapping:
            if shared.runtime is not gone:  # another call was faster
                return
            rest = self._rest
            if rest is None or any(shared.said.values()):
                raise error
            # What an earlier one has handed over, and nobody has gone on with, is here and not there.
            said = {
                name: shared.carried.get(name) or gone.past(name).messages
                for name in tuple(shared.said)
            }
            runtime = self._open(rest.backends, rest.model, rest.params, rest.on_progress)
            try:
                self._replace(
                    runtime, {name: messages for name, messages in said.items() if messages}
                )
            except BaseException:
                if shared.runtime is not runtime:
                    runtime.close()
                raise
            warn_outside(f"{error}; the {runtime.backend} backend takes over")

    def _replace(
        self, runtime: Runtime | None, carried: Mapping[str, tuple[Message, ...]] | None = None
    ) -> None:
        """Replace the runtime once the previous one has finished its answers; it goes on with what is carried over."""
        shared = self._shared
        with shared.swapping:
            if shared.closed:
                raise ClosedError("this LlamaBridge was closed while the model was loading")
            before = shared.runtime
            if before is not None:
                before.retire()
            # First what it goes on with: other threads use it as soon as it is there.
            shared.carried = dict(carried or {})
            shared.said = dict.fromkeys(shared.carried, False)
            shared.runtime = runtime
            if before is not None:
                before.close()


class _Rest(NamedTuple):
    """The backends that come after the one in use, and what they are to load."""

    backends: Sequence[Backend]
    model: Model
    params: ModelParams
    on_progress: OnProgress | None
