"""``/app/conversations``, ``/app/preferences``: what the chat application keeps, where its window has no browser to keep it in."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from anyio import Lock, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import SessionWriteError
from ..files.locking import try_lock
from ..files.replacing import replace_file
from .fields import Fields
from .refusals import Refused
from .server import Server

__all__ = ["Conversations"]

_ID = re.compile(r"t[0-9a-f]{24}")
_PATIENCE = 20.0
"""Seconds that a write waits for those of other windows."""


class Conversations:
    """A folder of conversations, each a JSON file under its id, and the preferences. Only the application looks into them.

    Args:
        folder: is created with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._preferences = folder / "preferences.json"
        self._one_after_another = Lock()  # so that few threads wait for the lock of the folder
        self._known: dict[Path, tuple[str, dict[str, Any]]] = {}  # heads, by the stamps of files

    async def heads(self, _server: Server, request: Request) -> Response:
        """Id, title, time and stamp of each; with ``?find=`` of those in which these words are."""
        words = request.query_params.get("find", "").casefold()
        return JSONResponse({"heads": await to_thread.run_sync(self._heads, words)})

    async def one(self, _server: Server, request: Request) -> Response:
        """One of them, or null; its stamp is the ETag."""
        path = self._path(request)
        talk, stamp = await to_thread.run_sync(_stamped, path)
        return JSONResponse(talk, headers={"ETag": stamp} if stamp else {})

    async def keep(self, server: Server, request: Request) -> Response:
        """Keep one: it is replaced as a whole or not at all. With ``?was=`` only if its stamp is still this one; "" is none."""
        path = self._path(request)
        was = request.query_params.get("was")
        talk = await server.read(request, partial(_whole, "conversation"))
        stamp = await self._keep(path, talk, was)
        return Response(status_code=204, headers={"ETag": stamp})

    async def forget(self, _server: Server, request: Request) -> Response:
        """Delete one."""
        path = self._path(request)
        async with self._one_after_another:
            await to_thread.run_sync(self._delete, path)
        return Response(status_code=204)

    async def preferences(self, _server: Server, _request: Request) -> Response:
        """What was preferred last; nothing at first."""
        return JSONResponse(await to_thread.run_sync(_object, self._preferences) or {})

    async def keep_preferences(self, server: Server, request: Request) -> Response:
        """Keep what is preferred from now on."""
        values = await server.read(request, partial(_whole, "preferences"))
        await self._keep(self._preferences, values)
        return Response(status_code=204)

    async def _keep(self, path: Path, values: Mapping[str, Any], was: str | None = None) -> str:
        async with self._one_after_another:
            return await to_thread.run_sync(self._write, path, values, was)

    def _path(self, request: Request) -> Path:
        id_: str = request.path_params["id"]
        if not _ID.fullmatch(id_):
            raise Refused(404, "no conversation has such an id", code="not_found")
        return self._folder / f"{id_}.json"

    def _heads(self, words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in sorted(self._folder.glob("t*.json")):
            stamp, head = self._known.get(path, ("", {}))
            if words or not stamp or stamp != _stamp(path):  # windows ask every two seconds
                talk, stamp = _stamped(path)
                if talk is None or not _says(talk, words):
                    continue
                head = _head(talk) | {"stamp": stamp}
                self._known[path] = stamp, head
            found.append(head)
        return found

    def _write(self, path: Path, values: Mapping[str, Any], was: str | None) -> str:
        data = json.dumps(values).encode()
        with self._changing("kept"), self._alone():
            if was is not None and was != _stamp(path):
                why = "another window has changed the conversation: read it again"
                raise Refused(409, why, code="conversation_changed")
            replace_file(path, lambda file: file.write(data))
            return _stamp(path)

    def _delete(self, path: Path) -> None:
        with self._changing("deleted"), self._alone():
            path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """No other window writes meanwhile: two that write one file would take each other for what a killed process left."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("ab") as file:
            end = time.monotonic() + _PATIENCE
            while not _locked(file.fileno()):
                if time.monotonic() > end:
                    raise OSError(None, "another window has been writing there for long")
                time.sleep(0.01)
            yield

    @contextmanager
    def _changing(self, done: str) -> Generator[None]:
        """Whoever asks owns the folder, so is told where it is."""
        try:
            yield
        except OSError as error:
            why = error.reason if isinstance(error, SessionWriteError) else error.strerror
            message = (
                f"the conversation cannot be {done} in {self._folder}: {why}: make room for it there, "
                "or start with another --conversations-dir"
            )
            raise Refused(500, message, code="not_kept") from error


def _whole(name: str, fields: Fields) -> dict[str, Any]:
    values = fields.plain_object(name)
    fields.done()
    if values is None:
        raise fields.refuse(name, "an object")
    return dict(values)


def _locked(handle: int) -> bool:
    try:
        return try_lock(handle)
    except OSError:  # no locks there; then windows may disturb each other
        return True


def _stamped(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The conversation in a file, None if there is none in it, and its stamp, "" if there is no file."""
    stamp = _stamp(
        path
    )  # before: a file replaced meanwhile seems older than it is, and is read again
    talk = _object(path)
    return talk if talk is not None and talk.get("id") == path.stem else None, stamp


def _stamp(path: Path) -> str:
    """Changes with each change of the file; "" if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def _object(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is none."""
    try:
        found: Any = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _says(talk: dict[str, Any], words: str) -> bool:
    messages: object = talk.get("messages")
    inside = cast("dict[str, object]", messages).values() if isinstance(messages, dict) else ()
    found = [cast("dict[str, object]", one) for one in inside if isinstance(one, dict)]
    texts = [talk.get("title"), *(one.get("text") for one in found)]
    return any(words in str(text).casefold() for text in texts)


def _head(talk: dict[str, Any]) -> dict[str, Any]:
    """What the list shows of one. Somebody may have changed its file."""
    title, changed = talk.get("title"), talk.get("changed")
    return {
        "id": talk["id"],
        "title": title.encode(errors="replace").decode() if isinstance(title, str) else "",
        "changed": changed if isinstance(changed, int | float) and math.isfinite(changed) else 0,
    }


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
