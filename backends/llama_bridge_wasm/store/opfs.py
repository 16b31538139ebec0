"""The origin private file system: files that a page keeps in the browser, invisible to everyone else.

Only a worker has its synchronous access handles. This module maps its errors.
"""

# JavaScript is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from llama_bridge.errors import ModelNotFound

from ..page import JsException, js, new, settled
from .errors import ModelBusy, StoreError, StoreFull, StoreUnavailable

__all__ = ["Folder", "free_space", "mapped_errors"]


@contextmanager
def mapped_errors(name: str, needed: int = 0, free: int = 0) -> Generator[None]:
    """Turn JavaScript's errors into the store's own; ``name`` is the file's name for people."""
    try:
        yield
    except JsException as error:
        kind, words = str(getattr(error, "name", "")), str(getattr(error, "message", error))
        if kind == "NotFoundError":
            raise ModelNotFound(name, "it is no longer kept here") from error
        if kind == "NoModificationAllowedError":
            raise ModelBusy(
                name,
                "another tab of this page has it open: close that tab, or wait until it is done",
            ) from error
        if kind == "QuotaExceededError":
            raise StoreFull(name, needed, free) from error
        if kind in ("SecurityError", "TypeError"):
            raise StoreUnavailable(
                name, f"this browser keeps no files for this page: {words}"
            ) from error
        raise StoreError(name, f"the browser's storage failed: {words}") from error


def _storage() -> Any:
    storage = getattr(js.navigator, "storage", None)
    if storage is None:
        why = "its address begins with http, and this is another computer than its server"
    elif not hasattr(storage, "getDirectory"):
        why = "it has no file system for pages, or that is switched off"
    else:
        return storage
    raise StoreUnavailable("model store", f"this browser keeps no files for this page: {why}")


async def free_space() -> tuple[int, int]:
    """How many bytes this page uses of the browser's storage, and how many more it may use."""
    with mapped_errors("model store"):
        estimate = await settled(_storage(), "estimate")
    used = int(estimate.usage)
    return used, max(0, int(estimate.quota) - used)


class Folder:
    """A folder in it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    async def at(cls, path: str) -> Folder:
        """The folder with this path, created if missing.

        Raises:
            StoreUnavailable: this browser keeps no files here.
        """
        with mapped_errors("model store"):
            handle = await settled(_storage(), "getDirectory")
            for part in path.split("/"):
                handle = await settled(handle, "getDirectoryHandle", part, _options(create=True))
        return cls(handle)

    async def names(self) -> list[str]:
        """The names in it, sorted."""
        with mapped_errors("model store"):
            names = self._handle.keys()
            found: list[str] = []
            while not (step := await settled(names, "next")).done:
                found.append(str(step.value))
        return sorted(found)

    async def open(
        self, name: str, *, shown: str, create: bool = False, shared: bool = False
    ) -> Any:
        """A synchronous access handle; with ``shared``, other tabs can read too, if the browser allows it.

        Raises:
            ModelBusy, ModelNotFound, StoreError: with ``shown`` as the name.
        """
        with mapped_errors(shown):
            file = await self._file(name, create=create)
            mode = _options(mode="read-only" if shared else "readwrite")
            return await settled(file, "createSyncAccessHandle", mode)

    async def size(self, name: str) -> int:
        """Bytes of a file."""
        with mapped_errors(name):
            return int((await settled(await self._file(name), "getFile")).size)

    async def remove(self, name: str, *, shown: str) -> None:
        """Delete a file; do nothing if there is none.

        Raises:
            ModelBusy: a tab has it open.
        """
        try:
            with mapped_errors(shown):
                await settled(self._handle, "removeEntry", name)
        except ModelNotFound:
            pass

    async def move(self, name: str, folder: Folder, to: str) -> None:
        """Move a file to another folder, atomically."""
        with mapped_errors(to):
            await settled(await self._file(name), "move", folder._handle, to)

    async def read_json(self, name: str) -> dict[str, Any] | None:
        """A small JSON file as an object; None if it is missing or not one."""
        try:
            with mapped_errors(name):
                content = await settled(await self._file(name), "getFile")
                text = await settled(content, "text")
            found = json.loads(text)
        except (ModelNotFound, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def write_json(self, name: str, value: dict[str, Any], *, shown: str) -> None:
        """Write all or nothing: a writable stream replaces the file when it is closed.

        Raises:
            StoreFull, StoreError: with ``shown`` as the name.
        """
        text = json.dumps(value)
        with mapped_errors(shown, needed=len(text)):
            stream = await settled(await self._file(name, create=True), "createWritable")
            await settled(stream, "write", text)
            await settled(stream, "close")

    async def _file(self, name: str, *, create: bool = False) -> Any:
        return await settled(self._handle, "getFileHandle", name, _options(create=create))


def _options(**values: object) -> Any:
    made = new(js.Object)
    for key, value in values.items():
        setattr(made, key, value)
    return made
