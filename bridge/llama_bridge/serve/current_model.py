"""One model, which another can replace: for a window, on a machine that may have no room for two."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ..aio import AsyncLlamaBridge
from ..errors import BridgeError, OutOfMemory
from ..params import AUTO
from ..progress import OnProgress
from .refusals import Refused
from .served import Models, Served

__all__ = ["CurrentModel"]

_log = logging.getLogger(__name__)


class CurrentModel(Models):
    """The model that is loaded now.

    Args:
        served: is loaded.
        arguments: of a bridge for another, by its name and whether it is in a sandbox.
        untrusted: whether the first is in a sandbox.
    """

    def __init__(
        self,
        served: Served,
        arguments: Callable[[str, bool], dict[str, Any]],
        *,
        untrusted: bool = False,
    ) -> None:
        self._served: Served | None = served
        self._arguments = arguments
        self._users: Counter[Served] = Counter()  # answers by their model
        self._changing = False
        self._untrusted = untrusted

    def names(self) -> Sequence[str]:
        """See :meth:`Models.names`."""
        return tuple(served.name for served in self.loaded())

    def loaded(self) -> Sequence[Served]:
        """See :meth:`Models.loaded`."""
        return () if self._served is None else (self._served,)

    @asynccontextmanager
    async def borrow(self, name: str | None) -> AsyncGenerator[Served, None]:
        """See :meth:`Models.borrow`."""
        served = self._served
        if served is None:
            raise Refused(503, "no model is loaded now: load one", param="model", code="no_model")
        if name is not None and name != served.name:
            raise self.unknown(name)
        self._users[served] += 1
        try:
            yield served
        finally:
            self._users[served] -= 1
            await self._leave(served)

    async def use(self, name: str, *, untrusted: bool, on_progress: OnProgress | None) -> None:
        """Load a model in place of this one, which stays if that fails or is cancelled.

        Where there is no room for both, this one goes first, and comes back if the other cannot be loaded.

        Raises:
            Refused: an answer is being written, or another model is being loaded.
            BridgeError: it cannot be loaded.
        """
        if self._changing:
            raise Refused(409, "a model is being loaded: wait for it, or stop it", code="busy")
        if self._users.total():
            raise Refused(409, "an answer is being written: stop it first", code="busy")
        self._changing = True
        try:
            await self._replace(name, untrusted, on_progress)
        finally:
            self._changing = False

    async def _replace(self, name: str, untrusted: bool, on_progress: OnProgress | None) -> None:
        before, was = self._served, self._untrusted
        try:
            llama = await self._load(name, untrusted, on_progress, shorter=before is None)
        except OutOfMemory:
            if before is None or self._users.total():
                raise
            self._served = None
            await _close(before)
            try:
                llama = await self._load(name, untrusted, on_progress, shorter=True)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._take_back(before.name, was)
                raise
            before = None
        self._served, self._untrusted = Served(name, llama), untrusted
        if before is not None:
            await self._leave(before)

    async def _leave(self, served: Served) -> None:
        """Close a model that another has replaced once its last answer is written: one may have begun while that was loaded."""
        if served is not self._served and not self._users[served]:
            del self._users[served]
            await _close(served)

    async def _load(
        self, name: str, untrusted: bool, on_progress: OnProgress | None, *, shorter: bool
    ) -> AsyncLlamaBridge:
        """Load a model; if ``shorter``, with a shorter context where the usual one does not fit and none was asked for."""
        arguments = self._arguments(name, untrusted)
        llama = AsyncLlamaBridge(None, **arguments)
        try:
            try:
                await llama.load_model(name, on_progress=on_progress)
            except OutOfMemory:
                if not shorter or arguments["params"].n_ctx:
                    raise
                await llama.load_model(name, n_ctx=AUTO, on_progress=on_progress)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await llama.close()
            raise
        return llama

    async def _take_back(self, name: str, untrusted: bool) -> None:
        try:
            llama = await self._load(name, untrusted, None, shorter=True)
            self._served = Served(name, llama)
        except BridgeError as error:
            _log.error("%r cannot be loaded again: %s", name, error)

    async def close(self) -> None:
        """See :meth:`Models.close`."""
        served, self._served = self._served, None
        if served is not None:
            await _close(served)


async def _close(served: Served) -> None:
    """Close a model, whoever gives up waiting for that."""
    with anyio.CancelScope(shield=True):
        await served.llama.close()
