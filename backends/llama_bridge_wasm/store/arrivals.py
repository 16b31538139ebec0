"""Models that have not arrived whole: each file is kept apart, so that a download that broke off goes on.

.. code-block:: text

    parts/<key>.part    what has arrived of a file
    parts/<key>.json    where it is from, and how to recognise it there
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from llama_bridge.errors import DigestMismatch, InvalidModel, ModelNotFound, OutOfMemory
from llama_bridge.models.part_name import read_part_name
from llama_bridge.models.source import ModelSource

from .copying import somebody_copies
from .errors import DownloadError, ModelBusy, StoreFull
from .hub import expected_of, without_digest
from .incoming import Incoming, StoreProgress, Tell, Transfer, blob_pieces, request
from .opfs import Folder
from .sources import HandleSource, part_urls

__all__ = ["Arrivals", "Arrived", "Unfinished", "check_memory", "file_name", "sizes_of"]

_MEMORY = 4 << 30
_PART, _ABOUT = ".part", ".json"
Check = Callable[[ModelSource], object]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An interrupted download; :meth:`ModelStore.download` of the same address continues it.

    Attributes:
        name: the file name.
        url: its address.
        size: bytes so far; of a split model in all parts.
        total: bytes of the whole model; None if the server did not say.
        validator: shows whether the server's file is still the same.
    """

    name: str
    url: str
    size: int
    total: int | None
    validator: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that is complete.

    Attributes:
        name: its file name.
        size: bytes.
        sha256: its digest.
        key: what it is kept under until it is taken.
    """

    name: str
    size: int
    sha256: str
    key: str


class Arrivals:
    """The folder of them."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def unfinished(self) -> list[Unfinished]:
        """Downloads that were interrupted; the parts of a split model are one."""
        found: dict[str, Unfinished] = {}
        for part in await self._folder.names():
            if not part.endswith(_PART):
                continue
            about = await self._folder.read_json(part.removesuffix(_PART) + _ABOUT)
            if about is None:  # an interrupted copy, or one that a tab is writing
                if not await somebody_copies():
                    with suppress(ModelBusy):
                        await self._folder.remove(part, shown=part)
                continue
            url, name = part_urls(str(about["url"]))[0], str(about["name"])
            try:
                size, total = await self._folder.size(part), about["total"]
            except ModelNotFound:  # another tab has just taken or deleted it
                continue
            if (called := read_part_name(name)) is not None:
                name, total = called.whole, about.get("of_all")
                size += found[url].size if url in found else 0
            found[url] = Unfinished(name, url, size, total, str(about["validator"]))
        return list(found.values())

    async def fetch(
        self,
        url: str,
        check: Check,
        progress: Tell | None,
        *,
        more: int = 0,
        of_all: int | None = None,
    ) -> Arrived:
        """Fetch a file, or what is missing of it.

        Args:
            url: its address.
            check: raises if it is not what it should be.
            progress: is told of it.
            more: bytes of other files for which there must be room, too.
            of_all: bytes of all parts of a split model.

        Raises:
            ModelNotFound, DownloadError: from the server; what has arrived is kept for the next try.
            DigestMismatch: it is not what its address says must arrive; it is not kept.
            InvalidModel: from ``check``; it is not kept.
            OutOfMemory, StoreFull, ModelBusy: see :meth:`ModelStore.download`.
        """
        folder, key, name = self._folder, _key(url), file_name(url)
        expected = expected_of(url)
        incoming = Incoming(await folder.open(key + _PART, shown=name, create=True), name)
        about: dict[str, Any] = {}
        try:
            with closing(incoming):
                about = await folder.read_json(key + _ABOUT) or {}
                expected = expected or expected_of(str(about.get("url", "")))
                if expected is not None:
                    url = f"{without_digest(url)}#sha256={expected}"
                incoming.take_up()
                if not await _is_complete(incoming, about, url, name):
                    transfer = await request(
                        url, name, incoming.size, str(about.get("validator", ""))
                    )
                    note = _what_became_of_it(incoming, transfer)
                    if transfer.start == 0:
                        incoming.start_over()
                    before = about
                    about = {"name": name, "url": url, "total": transfer.total}
                    about["validator"] = transfer.validator
                    if of_all is not None:
                        about["of_all"] = of_all
                    if about != before:  # which takes room for both
                        await folder.write_json(key + _ABOUT, about, shown=name)
                    await _receive(incoming, transfer, name, note, progress, more)
            arrived = Arrived(name, incoming.size, incoming.sha256, key)
            if expected not in (None, arrived.sha256):
                way_out = "it was damaged on its way, or is another file by now: it is not kept; try again"
                raise DigestMismatch(name, str(expected), arrived.sha256, way_out)
            async with self.open([arrived]) as (source,):
                check(source)
            return arrived
        except BaseException as error:
            useless = isinstance(
                error, InvalidModel | ModelNotFound | DigestMismatch
            ) or not about.get("validator")
            if useless or not incoming.size or isinstance(error, OutOfMemory):
                await self.discard(url)
            elif isinstance(error, DownloadError):
                raise _with_way_out(error, name, incoming.size, about["total"]) from error
            raise

    async def copy(self, blob: Any, name: str, progress: Tell | None, more: int = 0) -> Arrived:
        """Copy a ``File`` or ``Blob``; it is complete, or nothing is left of it.

        Raises:
            StoreFull: it does not fit, with ``more`` bytes; nothing was written.
        """
        total = int(blob.size)
        folder, key = self._folder, _key(f"file:{name}:{total}")
        incoming = Incoming(await folder.open(key + _PART, shown=name, create=True), name)
        try:
            with closing(incoming):
                incoming.start_over()
                _check_room(incoming, name, total, more)
                async for piece in blob_pieces(blob, name):
                    _write(incoming, piece, name, total)
                    _tell(progress, incoming, total)
            return Arrived(name, incoming.size, incoming.sha256, key)
        except BaseException:
            await folder.remove(key + _PART, shown=name)
            raise

    @asynccontextmanager
    async def open(self, files: Sequence[Arrived]) -> AsyncGenerator[list[ModelSource]]:
        """Open files that have arrived, to look into them."""
        handles: list[Any] = []
        try:
            for file in files:
                handles.append(await self._folder.open(file.key + _PART, shown=file.name))
            yield [HandleSource(h, file.name) for h, file in zip(handles, files, strict=True)]
        finally:
            for handle in handles:
                handle.close()

    async def take(self, file: Arrived, folder: Folder, name: str) -> None:
        """Move a file that has arrived to where it belongs, unless it is there already."""
        if name not in await folder.names():
            await self._folder.move(file.key + _PART, folder, name)
        await self.forget(file)

    async def forget(self, file: Arrived) -> None:
        """Delete what has arrived."""
        await self._folder.remove(file.key + _PART, shown=file.name)
        await self._folder.remove(file.key + _ABOUT, shown=file.name)

    async def discard(self, url: str) -> None:
        """Delete what has arrived from an address.

        Raises:
            ModelBusy: another tab is downloading it.
        """
        await self.forget(Arrived(file_name(url), 0, "", _key(url)))


async def sizes_of(urls: Sequence[str]) -> list[int] | None:
    """The bytes of files on a server, which is asked for each; None if it does not say.

    Raises:
        ModelNotFound: one is not there. DownloadError.
    """
    sizes: list[int | None] = []
    for url in urls:
        answer = await request(url, file_name(url), 0, "")
        answer.cancel()
        sizes.append(answer.total)
    known = [size for size in sizes if size is not None]
    return known if len(known) == len(sizes) else None


async def _is_complete(incoming: Incoming, about: dict[str, Any], url: str, name: str) -> bool:
    """Whether all has arrived, and the server still has the same."""
    size, validator = incoming.size, str(about.get("validator", ""))
    if not size or not validator or size != about.get("total"):
        return False
    answer = await request(url, name, size - 1, validator)
    answer.cancel()
    return answer.start == size - 1


async def _receive(
    incoming: Incoming,
    transfer: Transfer,
    name: str,
    note: str,
    progress: Tell | None,
    more: int,
) -> None:
    total = transfer.total
    try:
        if total is not None:
            check_memory(name, total)
            _check_room(incoming, name, total, more)
        _tell(progress, incoming, total, note)
        async for piece in transfer.pieces:
            _write(incoming, piece, name, total)
            _tell(progress, incoming, total, note)
            if not incoming.is_gguf:  # the later check raises; the rest is not needed
                return
    finally:
        transfer.cancel()
    if total is not None and incoming.size != total:
        raise DownloadError(name, "the connection broke", incoming.size, total)


def _write(incoming: Incoming, piece: Any, name: str, total: int | None) -> None:
    """Append a piece. If the space has become less meanwhile, the error tells what all of the rest needs."""
    try:
        incoming.write(piece)
    except StoreFull as error:
        if total is None:
            raise
        raise StoreFull(name, total - incoming.size, error.free) from error


def check_memory(name: str, size: int) -> None:
    """Refuse what is too large for any browser.

    Raises:
        OutOfMemory.
    """
    if size > _MEMORY:
        raise OutOfMemory(
            name,
            f"the model has {size / 1e9:,.1f} GB, but llama.wasm has at most 4 GiB of memory, in any browser",
        )


def _check_room(incoming: Incoming, name: str, total: int, more: int) -> None:
    room = incoming.room(total + more)
    if room < total + more:
        raise StoreFull(name, total + more - incoming.size, room - incoming.size)


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
    return hashlib.sha256(without_digest(url).encode(errors="surrogatepass")).hexdigest()[:32]


def file_name(url: str) -> str:
    """The last part of an address."""
    path = unquote(re.split("[?#]", url, maxsplit=1)[0])
    return path.rstrip("/").rpartition("/")[2] or url
