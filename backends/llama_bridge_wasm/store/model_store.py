"""The models that a page keeps, each under its sha256, so that a second visit needs no network.

They are in the page's origin private file system. An unfinished download is kept apart, and becomes a model only when
its size is right and llama_bridge can read its header.

.. code-block:: text

    models/<sha256>.gguf    a file
    models/<sha256>.json    its name; for the first file of a split model also the digests of all

The first file of a split model is its key. It is the last that is taken, so a model that is listed is whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from llama_bridge.errors import InvalidModel, ModelNotFound
from llama_bridge.models.gguf import read_gguf
from llama_bridge.models.part_name import read_part_name
from llama_bridge.models.parts_source import PartsSource
from llama_bridge.models.source import ModelSource, open_model
from llama_bridge.models.split import check_called

from .arguments import check_digest, check_path
from .arrivals import Arrivals, Arrived, Unfinished, check_memory, file_name, sizes_of
from .copying import copying
from .errors import (
    DownloadError,
    ModelBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from .hub import HUB, addresses_of
from .incoming import StoreProgress, Tell
from .opfs import Folder, free_space
from .sources import BlobSource, HandleSource, part_urls

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

_MODEL, _ABOUT = ".gguf", ".json"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A whole model.

    Attributes:
        name: its original file name; of a split model without the number of a part.
        size: bytes, of all parts.
        sha256: the digest of the file, or of the first part; :meth:`ModelStore.open` and :meth:`ModelStore.delete` take
            it.
        kept: when it was kept, in UTC, as ISO 8601.
        parts: the digests of a split model's files, in order; empty for a model in one file.
    """

    name: str
    size: int
    sha256: str
    kept: str
    parts: tuple[str, ...] = ()


class ModelStore:
    """Models that the browser keeps for this page. Use it in a worker: the page itself cannot.

    Args:
        path: the store's folder. Two stores with the same path are the same store.
        hub: where names of the hub are looked up.

    Raises:
        InvalidInput: ``path`` is not one.
    """

    def __init__(self, path: str = "llama-bridge", hub: str = HUB) -> None:
        self._path = check_path(path)
        self._hub = hub

    async def models(self) -> list[KeptModel]:
        """The models that are kept, newest first.

        Raises:
            StoreUnavailable: this browser keeps no files for this page.
        """
        folder = await self._folder("models")
        sizes: dict[str, int] = {}
        abouts: dict[str, dict[str, Any]] = {}
        for file in await folder.names():
            if file.endswith(_MODEL):
                sha256 = file.removesuffix(_MODEL)
                try:
                    sizes[sha256] = await folder.size(file)
                except ModelNotFound:  # another tab has just deleted it
                    continue
                abouts[sha256] = await folder.read_json(sha256 + _ABOUT) or {}
        found: list[KeptModel] = []
        for sha256, about in abouts.items():
            if about.get("is_part"):
                continue
            parts = tuple(about.get("parts", ()))
            size = sum(sizes.get(part, 0) for part in parts or (sha256,))
            name, kept = str(about.get("name", sha256 + _MODEL)), str(about.get("kept", ""))
            found.append(KeptModel(name, size, sha256, kept, parts))
        return sorted(found, key=lambda model: model.kept, reverse=True)

    async def unfinished(self) -> list[Unfinished]:
        """Downloads that were interrupted."""
        return await (await self._arrivals()).unfinished()

    async def space(self) -> tuple[int, int]:
        """How many bytes this page uses of the browser's storage, and how many more it may use. An estimate."""
        return await free_space()

    @asynccontextmanager
    async def open(self, sha256: str) -> AsyncGenerator[ModelSource]:
        """Open a kept model. Load it inside the block: ``LlamaBridge(source)`` reads all of it.

        Raises:
            InvalidInput: this is no digest.
            ModelNotFound: the model, or a part of it, is not kept, or no longer.
            ModelBusy: another tab has it open, and this browser allows only one.
        """
        check_digest(sha256)
        folder = await self._folder("models")
        about = await folder.read_json(sha256 + _ABOUT) or {}
        handles: list[Any] = []
        sources: list[ModelSource] = []
        try:
            for part in about.get("parts") or (sha256,):
                name = await self._name(folder, part)
                handles.append(await folder.open(part + _MODEL, shown=name, shared=True))
                sources.append(HandleSource(handles[-1], name))
            yield sources[0] if len(sources) == 1 else PartsSource(sources)
        finally:
            for handle in handles:
                handle.close()

    async def delete(self, sha256: str) -> None:
        """Delete a model. If it is not there, nothing happens.

        Raises:
            InvalidInput: this is no digest.
            ModelBusy: a tab is loading it.
        """
        check_digest(sha256)
        folder = await self._folder("models")
        about = await folder.read_json(sha256 + _ABOUT) or {}
        needed = {part for m in await self.models() if m.sha256 != sha256 for part in m.parts}
        files = [part for part in about.get("parts", ()) if part != sha256 and part not in needed]
        for file in (*files, sha256):  # the first part last: until then it is listed
            await folder.remove(file + _MODEL, shown=await self._name(folder, file))
            await folder.remove(file + _ABOUT, shown=file)

    async def discard(self, url: str) -> None:
        """Delete an unfinished download; of a split model by the address of any part.

        Raises:
            ModelBusy: another tab is downloading it.
        """
        arrivals = await self._arrivals()
        for each in part_urls(url):
            await arrivals.discard(each)

    async def add(self, blob: Any, name: str, progress: Tell | None = None) -> KeptModel:
        """Keep a copy of a ``File`` or ``Blob``. It is checked first.

        Raises:
            InvalidModel: it is not a usable GGUF file.
            OutOfMemory: it is too large for any browser.
            StoreFull: it does not fit; nothing was written.
        """
        open_model(BlobSource(blob, name))
        check_memory(name, int(blob.size))
        arrivals = await self._arrivals()
        async with copying():
            return await self._keep(arrivals, [await arrivals.copy(blob, name, progress)])

    async def add_parts(self, files: Sequence[Any], progress: Tell | None = None) -> KeptModel:
        """Keep a copy of a split model: its ``File`` objects, in any order. They are checked first.

        Raises:
            InvalidInput: one is not a part of the same model.
            ModelNotFound: a part is missing.
            InvalidModel, OutOfMemory, StoreFull: as for :meth:`add`.
        """
        called = PartsSource([BlobSource(file) for file in files])
        model = open_model(called)
        name, total = called.name, model.header.file_size
        check_memory(name, total)
        order = [part.path.name for part in model.files]
        ordered = sorted(files, key=lambda file: order.index(str(file.name)))
        arrivals = await self._arrivals()
        arrived: list[Arrived] = []
        async with copying():
            try:
                for file in ordered:
                    done = sum(each.size for each in arrived)
                    tell = _of_all(progress, done, total)
                    more = total - done - int(file.size)
                    arrived.append(await arrivals.copy(file, str(file.name), tell, more))
            except BaseException:
                for each in arrived:
                    await arrivals.forget(each)
                raise
            return await self._keep(arrivals, arrived)

    async def download(self, model: str, progress: Tell | None = None) -> KeptModel:
        """Fetch a model and keep it; of a split model all parts. An interrupted download is continued, if the server can.

        Args:
            model: an address, or a name on the hub such as ``"hf:org/repo:Q4_K_M"``. What comes from the hub is checked
                against the digest that the hub names; for an address, ``#sha256=<hex>`` at its end names one.
            progress: is told of it.

        Raises:
            InvalidInput: it begins like a name, but is none.
            ModelNotFound, DownloadError: from the server; what has arrived is kept for the next try. AccessDenied and
                RateLimited among these.
            DigestMismatch: something else arrived; it is not kept.
            InvalidModel: what arrived is not a usable GGUF file.
            OutOfMemory: it is too large for any browser.
            StoreFull: it does not fit. This is raised before the download, if the server sends the size.
            ModelBusy: another tab is downloading it.
        """
        arrivals = await self._arrivals()
        urls = await addresses_of(model, self._hub) or part_urls(model)
        if len(urls) == 1:
            arrived = [await arrivals.fetch(urls[0], open_model, progress)]
        else:
            arrived = await _fetch_parts(arrivals, urls, progress)
        return await self._keep(arrivals, arrived)

    async def _keep(self, arrivals: Arrivals, files: Sequence[Arrived]) -> KeptModel:
        """Turn files that have arrived into a model."""
        first, *more = files
        called = read_part_name(first.name) if more else None
        kept = datetime.now(UTC).isoformat("T", "seconds")
        folder = await self._folder("models")
        for part in more:
            if await folder.read_json(part.sha256 + _ABOUT) is None:
                about = {"name": part.name, "is_part": True}
                await folder.write_json(part.sha256 + _ABOUT, about, shown=part.name)
            await arrivals.take(part, folder, part.sha256 + _MODEL)
        model = KeptModel(
            called.whole if called else first.name,
            sum(file.size for file in files),
            first.sha256,
            kept,
            tuple(file.sha256 for file in files) if more else (),
        )
        about = asdict(model) | {"file": first.name}
        await folder.write_json(first.sha256 + _ABOUT, about, shown=model.name)
        await arrivals.take(first, folder, first.sha256 + _MODEL)
        return model

    async def _name(self, folder: Folder, sha256: str) -> str:
        about = await folder.read_json(sha256 + _ABOUT) or {}
        return str(about.get("file", about.get("name", sha256)))

    async def _arrivals(self) -> Arrivals:
        return Arrivals(await self._folder("parts"))

    async def _folder(self, name: str) -> Folder:
        return await Folder.at(f"{self._path}/{name}")


async def _fetch_parts(
    arrivals: Arrivals, urls: Sequence[str], progress: Tell | None
) -> list[Arrived]:
    """Fetch all parts of a split model, after asking whether all are there."""
    sizes = await sizes_of(urls)
    total = None if sizes is None else sum(sizes)
    if total is not None:
        check_memory(file_name(urls[0]), total)
    arrived: list[Arrived] = []
    for i, url in enumerate(urls):
        tell = _of_all(progress, sum(file.size for file in arrived), total)
        more = 0 if sizes is None else sum(sizes[i + 1 :])
        arrived.append(await arrivals.fetch(url, _check_part, tell, more=more, of_all=total))
    try:
        async with arrivals.open(arrived) as sources:
            open_model(PartsSource(sources))
    except InvalidModel:  # nobody knows which part is the wrong one
        for file in arrived:
            await arrivals.forget(file)
        raise
    return arrived


def _check_part(source: ModelSource) -> None:
    with source.open() as file:
        check_called(source.name, source.name, read_gguf(file, source.name))


def _of_all(progress: Tell | None, before: int, total: int | None) -> Tell | None:
    """What is told of one part, as of the whole model."""
    return None if progress is None else partial(_tell_all, progress, before, total)


def _tell_all(progress: Tell, before: int, total: int | None, step: StoreProgress) -> None:
    progress(StoreProgress(before + step.done, total, step.note))
