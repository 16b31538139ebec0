"""Several models: loaded when a request asks for one, unloaded when nobody has for a while or memory is short."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ..aio import AsyncLlamaBridge
from ..checks import full_path
from ..errors import BridgeError, InvalidInput, OutOfMemory, PathLike, UnsupportedCapability
from ..models.part_name import read_part_name
from ..session_name import file_name
from .served import Models, Served

__all__ = ["Shelf", "models_in", "session_folder"]

_LOOKS = 5.0
"""Seconds between two looks for models that nobody uses."""

_log = logging.getLogger(__name__)


def models_in(folder: PathLike) -> dict[str, str]:
    """The GGUF files in a folder by the names that requests give; of a split model the first part.

    Raises:
        InvalidInput: it is no folder.
    """
    path = full_path("models_dir", folder)
    try:
        files = sorted(one for one in path.iterdir() if one.suffix == ".gguf" and one.is_file())
    except OSError as error:
        raise InvalidInput(
            f"models_dir={str(folder)!r}: {error.strerror}: give a folder"
        ) from error
    found: dict[str, str] = {}
    for file in files:
        part = read_part_name(file.name)
        if part is None:
            found[file.stem] = str(file)
        elif part.number == 1:
            found[part.base] = str(file)
    return found


class _Place:
    """A model's place on the shelf."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.served: Served | None = None
        self.users = 0
        self.used = 0.0
        self.changing = anyio.Lock()  # held while it is loaded or unloaded


class Shelf(Models):
    """Models by name.

    Args:
        models: what each name loads.
        open_model: makes a bridge of a name and a model, without loading it; the last argument is whether its sessions are
            kept, which not every model can.
        idle: seconds after which a model that nobody uses is unloaded.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        open_model: Callable[[str, str, bool], AsyncLlamaBridge],
        idle: float,
    ) -> None:
        if not models:
            raise InvalidInput("models is empty: give at least one")
        self._places = {name: _Place(model) for name, model in models.items()}
        self._open = open_model
        self._idle = idle

    def names(self) -> Sequence[str]:
        """See :meth:`Models.names`."""
        return tuple(self._places)

    def loaded(self) -> Sequence[Served]:
        """See :meth:`Models.loaded`."""
        return [place.served for place in self._places.values() if place.served is not None]

    @asynccontextmanager
    async def borrow(self, name: str | None) -> AsyncGenerator[Served, None]:
        """See :meth:`Models.borrow`. Several must be told apart, so a name is needed unless there is one only."""
        if name is None and len(self._places) == 1:
            name = next(iter(self._places))
        place = self._places.get(name or "")
        if name is None or place is None:
            raise self.unknown(name)
        place.users += 1  # first: so that nobody unloads it meanwhile
        try:
            async with place.changing:
                served = place.served
                if served is None:
                    served = place.served = await self._load(name, place.model)
            yield served
        finally:
            place.users -= 1
            place.used = time.monotonic()

    async def _load(self, name: str, model: str) -> Served:
        keeps = True
        while True:
            llama = self._open(name, model, keeps)
            _log.info("loading %r", name)
            try:
                await llama
                return Served(name, llama)
            except OutOfMemory:
                await llama.close()
                if not await self._unload_one():
                    raise
            except UnsupportedCapability:
                await llama.close()
                if not keeps:
                    raise
                keeps = False  # it embeds only, say
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await llama.close()
                raise

    async def _unload_one(self, *, before: float | None = None) -> bool:
        """Unload the model that was not used for longest; False if all are in use, or were used since ``before``."""
        idle = [
            (place.used, name)
            for name, place in self._places.items()
            if place.served is not None and not place.users
            if before is None or place.used < before
        ]
        if not idle:
            return False
        _, name = min(idle)
        place = self._places[name]
        async with place.changing:
            served = place.served
            if served is not None and not place.users:
                _log.info("unloading %r", name)
                place.served = None
                await _close(served)
        return True

    async def watch(self) -> None:
        """Unload models that nobody uses, for as long as the server runs."""
        while True:
            await anyio.sleep(min(_LOOKS, self._idle / 2))
            while await self._unload_one(before=time.monotonic() - self._idle):
                pass

    async def close(self) -> None:
        """See :meth:`Models.close`."""
        for place in self._places.values():
            served, place.served = place.served, None
            if served is not None:
                await _close(served)


async def _close(served: Served) -> None:
    """Close a model, whoever gives up waiting for that: its sessions are written."""
    try:
        with anyio.CancelScope(shield=True):
            await served.llama.close()
    except BridgeError as error:  # a session could not be written
        _log.error("%r: %s", served.name, error)


def session_folder(folder: Path, name: str) -> Path:
    """Where the sessions of a model are kept."""
    return folder / file_name(name).removesuffix(".session")
