"""The models that a page keeps, each under its sha256, so that a second visit needs no network.

They are in the page's origin private file system. An unfinished download is kept apart, and becomes a model only when
its size is right and llama_bridge can read its header.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from llama_bridge.errors import InvalidModel, ModelNotFound, OutOfMemory
from llama_bridge.models.source import ModelSource, open_model

from .errors import (
    DownloadError,
    ModelBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from .incoming import Incoming, StoreProgress, Tell, Transfer, blob_pieces, request
from .opfs import Folder, free_space
from .sources import BlobSource, HandleSource

__all__ = [
    "DownloadError",
    "KeptModel",
    "ModelBusy",
    "ModelStore",
    "StoreProgress",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Unfinished",
]

_MEMORY = 4 << 30
_MODEL, _PART, _ABOUT = ".gguf", ".part", ".json"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A whole model.

    Attributes:
        name: its original file name.
        size: bytes.
        sha256: the file's digest; :meth:`ModelStore.open` and :meth:`ModelStore.delete` take it.
        kept: when it was kept, in UTC, as ISO 8601.
    """

    name: str
    size: int
    sha256: str
    kept: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An interrupted download; :meth:`ModelStore.download` of the same address continues it.

    Attributes:
        name: the file name.
        url: its address.
        size: bytes so far.
        total: bytes of the whole file; None if the server did not say.
        validator: shows whether the server's file is still the same.
    """

    name: str
    url: str
    size: int
    total: int | None
    validator: str


class ModelStore:
    """Models that the browser keeps for this page. Use it in a worker: the page itself cannot.

    Args:
        path: the store's folder. Two stores with the same path are the same store.
    """

    def __init__(self, path: str = "llama-bridge") -> None:
        self._path = path

    async def models(self) -> list[KeptModel]:
        """The models that are kept, newest first.

        Raises:
            StoreUnavailable: this browser keeps no files for this page.
        """
        folder = await self._folder("models")
        found: list[KeptModel] = []
        for file in await folder.names():
            if file.endswith(_MODEL):
                sha256 = file.removesuffix(_MODEL)
                about = await folder.read_json(sha256 + _ABOUT) or {}
                name, kept = str(about.get("name", file)), str(about.get("kept", ""))
                found.append(KeptModel(name, await folder.size(file), sha256, kept))
        return sorted(found, key=lambda model: model.kept, reverse=True)

    async def unfinished(self) -> list[Unfinished]:
        """Downloads that were interrupted."""
        folder = await self._folder("parts")
        found: list[Unfinished] = []
        for part in await folder.names():
            if not part.endswith(_PART):
                continue
            about = await folder.read_json(part.removesuffix(_PART) + _ABOUT)
            if about is not None:
                found.append(Unfinished(size=await folder.size(part), **about))
            else:  # an interrupted copy, or one that a tab is writing
                with suppress(ModelBusy):
                    await folder.remove(part, shown=part)
        return found

    async def space(self) -> tuple[int, int]:
        """How many bytes this page uses of the browser's storage, and how many more it may use. An estimate."""
        return await free_space()

    @asynccontextmanager
    async def open(self, sha256: str) -> AsyncGenerator[ModelSource]:
        """Open a kept model. Load it inside the block: ``LlamaBridge(source)`` reads all of it.

        Raises:
            ModelNotFound: the model is not kept, or no longer.
            ModelBusy: another tab has it open, and this browser allows only one.
        """
        folder = await self._folder("models")
        about = await folder.read_json(sha256 + _ABOUT) or {}
        name = str(about.get("name", sha256))
        handle = await folder.open(sha256 + _MODEL, shown=name, shared=True)
        try:
            yield HandleSource(handle, name)
        finally:
            handle.close()

    async def delete(self, sha256: str) -> None:
        """Delete a model. If it is not there, nothing happens.

        Raises:
            ModelBusy: a tab is loading it.
        """
        folder = await self._folder("models")
        about = await folder.read_json(sha256 + _ABOUT) or {}
        await folder.remove(sha256 + _MODEL, shown=str(about.get("name", sha256)))
        await folder.remove(sha256 + _ABOUT, shown=sha256)

    async def discard(self, url: str) -> None:
        """Delete an unfinished download.

        Raises:
            ModelBusy: another tab is downloading it.
        """
        folder, key = await self._folder("parts"), _key(url)
        await folder.remove(key + _PART, shown=_name(url))
        await folder.remove(key + _ABOUT, shown=_name(url))

    async def add(self, blob: Any, name: str, progress: Tell | None = None) -> KeptModel:
        """Keep a copy of a ``File`` or ``Blob``. It is checked first.

        Raises:
            InvalidModel: it is not a usable GGUF file.
            OutOfMemory: it is too large for any browser.
            StoreFull: it does not fit; nothing was written.
        """
        open_model(BlobSource(blob, name))
        total = int(blob.size)
        _check_memory(name, total)
        folder, key = await self._folder("parts"), _key(f"file:{name}:{total}")
        incoming = Incoming(await folder.open(key + _PART, shown=name, create=True), name)
        try:
            with closing(incoming):
                incoming.start_over()
                _check_room(incoming, name, total)
                async for piece in blob_pieces(blob, name):
                    incoming.write(piece)
                    _tell(progress, incoming, total)
            return await self._accept(folder, key, name, incoming.sha256)
        finally:
            await folder.remove(key + _PART, shown=name)

    async def download(self, url: str, progress: Tell | None = None) -> KeptModel:
        """Fetch a model and keep it. An interrupted download is continued, if the server can do that.

        Raises:
            ModelNotFound, DownloadError: from the server; what has arrived is kept for the next try.
            InvalidModel: what arrived is not a usable GGUF file.
            OutOfMemory: it is too large for any browser.
            StoreFull: it does not fit. This is raised before the download, if the server sends the size.
            ModelBusy: another tab is downloading it.
        """
        folder, key, name = await self._folder("parts"), _key(url), _name(url)
        incoming = Incoming(await folder.open(key + _PART, shown=name, create=True), name)
        about: dict[str, Any] = {}
        try:
            with closing(incoming):
                about = await folder.read_json(key + _ABOUT) or {}
                incoming.take_up()
                transfer = await request(url, name, incoming.size, str(about.get("validator", "")))
                note = _what_became_of_it(incoming, transfer)
                if transfer.start == 0:
                    incoming.start_over()
                about = {"name": name, "url": url, "total": transfer.total}
                about["validator"] = transfer.validator
                await folder.write_json(key + _ABOUT, about)
                await self._receive(incoming, transfer, name, note, progress)
            model = await self._accept(folder, key, name, incoming.sha256)
        except BaseException as error:
            useless = isinstance(error, InvalidModel | ModelNotFound) or not about.get("validator")
            if useless or not incoming.size or isinstance(error, OutOfMemory):
                await self.discard(url)
            elif isinstance(error, DownloadError):
                raise _with_way_out(error, name, incoming.size, about["total"]) from error
            raise
        await self.discard(url)
        return model

    async def _receive(
        self,
        incoming: Incoming,
        transfer: Transfer,
        name: str,
        note: str,
        progress: Tell | None,
    ) -> None:
        total = transfer.total
        try:
            if total is not None:
                _check_memory(name, total)
                _check_room(incoming, name, total)
            _tell(progress, incoming, total, note)
            async for piece in transfer.pieces:
                incoming.write(piece)
                _tell(progress, incoming, total, note)
                if not incoming.is_gguf:  # the later check raises; the rest is not needed
                    return
        finally:
            transfer.cancel()
        if total is not None and incoming.size != total:
            raise DownloadError(name, "the connection broke", incoming.size, total)

    async def _accept(self, parts: Folder, key: str, name: str, sha256: str) -> KeptModel:
        """Turn a complete download into a model, if it is one."""
        handle = await parts.open(key + _PART, shown=name)
        try:
            size = open_model(HandleSource(handle, name)).header.file_size
        finally:
            handle.close()
        model = KeptModel(name, size, sha256, datetime.now(UTC).isoformat("T", "seconds"))
        models = await self._folder("models")
        await models.write_json(sha256 + _ABOUT, asdict(model))
        if sha256 + _MODEL not in await models.names():
            await parts.move(key + _PART, models, sha256 + _MODEL)
        return model

    async def _folder(self, name: str) -> Folder:
        return await Folder.at(f"{self._path}/{name}")


def _check_memory(name: str, size: int) -> None:
    if size > _MEMORY:
        raise OutOfMemory(
            name,
            f"the model has {size / 1e9:,.1f} GB, but llama.wasm has at most 4 GiB of memory, in any browser",
        )


def _check_room(incoming: Incoming, name: str, total: int) -> None:
    room = incoming.room(total)
    if room < total:
        raise StoreFull(name, total - incoming.size, room - incoming.size)


def _tell(progress: Tell | None, incoming: Incoming, total: int | None, note: str = "") -> None:
    if progress is not None:
        progress(StoreProgress(incoming.size, total, note))


def _what_became_of_it(incoming: Incoming, transfer: Transfer) -> str:
    if incoming.size == 0:
        return ""
    if transfer.start:
        return f"continues after {incoming.size / 1e6:,.1f} MB"
    return "starts over: the server cannot send only the rest, or its file has changed"


def _with_way_out(error: DownloadError, name: str, kept: int, total: int | None) -> DownloadError:
    whole = f" of {total / 1e6:,.1f}" if total else ""
    way_out = f"; {kept / 1e6:,.1f}{whole} MB are kept, and the next try continues from there"
    return DownloadError(name, error.reason + way_out, kept, total)


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def _name(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rpartition("/")[2] or url
