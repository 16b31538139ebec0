"""``/app/sessions``: a conversation with its KV cache goes out as a file, and comes in again. For a window only.

The file is the one that ``session_save`` writes, so the command line and programs can use it, too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from ..aio import AsyncLlamaBridge, AsyncSession
from ..capabilities import Capability
from ..errors import BridgeError, SessionMismatch
from ..snapshot import SessionInfo
from ..verification import Verification
from .answering import ClientGone, while_connected
from .kept_responses import Kept
from .refusals import Refused
from .responses import forget, owner_name
from .server import Server

__all__ = ["SessionFiles"]

_NEEDED = Capability.SESSION_TOOLS | Capability.SESSION_PERSISTENCE
_SPARE = 64 << 20
"""Bytes that stay free in the temporary folder."""


class SessionFiles:
    """What a window asks about the sessions of its answers."""

    async def one(self, server: Server, request: Request) -> Response:
        """How many tokens of a conversation, up to one of its answers, are kept; null if none are."""
        async with server.work(None) as served:
            session = await _session(served.llama, request.path_params["id"])
            if session is None:
                return JSONResponse(None)
            tokens = await to_thread.run_sync(lambda: len(session.tokens))
            saves = Capability.SESSION_PERSISTENCE in served.llama.capabilities
            return JSONResponse({"tokens": tokens, "model": served.name, "saves": saves})

    async def file(self, server: Server, request: Request) -> Response:
        """The session of an answer, as a file."""
        async with server.work(None) as served:
            served.llama.requires(_NEEDED)
            session = await _session(served.llama, request.path_params["id"])
            if session is None:
                why = "the KV cache of this answer is not here any more: ask something first, and save then"
                raise Refused(404, why, code="not_found")
            folder = tempfile.mkdtemp(prefix="llama-bridge-")
            try:
                path = Path(folder, "conversation.session")
                await session.save(path)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        leave = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(path, media_type="application/octet-stream", background=leave)

    async def take(self, server: Server, request: Request) -> Response:
        """Load a session from a file; the answer's id goes on from it. With ``?replay=1`` what does not fit is read again."""
        name = unquote(request.path_params["name"])
        replay = request.query_params.get("replay") == "1"
        async with server.work(None) as served:
            served.llama.requires(_NEEDED)
            async with _received(request) as path:
                id_ = server.responses.new_id(owner_name(request))
                session = served.llama.session(id_)
                try:
                    info = await session.load(path, replay=replay)
                except SessionMismatch as error:
                    message = str(error).replace(str(path), name)
                    raise Refused(409, message, code="session_mismatch") from error
                except BridgeError as error:
                    raise Refused(400, str(error).replace(str(path), name)) from error
            try:
                kept = _kept(id_, owner_name(request), served.name, info)
                await forget(server, await server.responses.keep(kept))
            except BaseException:
                await session.delete()
                raise
            return JSONResponse(_record(id_, served.name, info))

    async def check(self, server: Server, request: Request) -> Response:
        """What :meth:`LlamaBridge.session_verify` says of a file, its logits too. Nothing is loaded."""
        name = unquote(request.path_params["name"])
        async with server.work(None) as served:
            llama = served.llama
            llama.requires(_NEEDED)
            async with _received(request) as path:

                async def verify() -> Verification:
                    return await llama.session_verify(path, deep=True)

                try:
                    found = await while_connected(request, verify)
                except BridgeError as error:
                    raise Refused(400, str(error).replace(str(path), name)) from error
            return JSONResponse(_checked(found))


async def _session(llama: AsyncLlamaBridge, id_: str) -> AsyncSession | None:
    """The session of an answer, if there is one."""
    if Capability.SESSION_TOOLS not in llama.capabilities or id_ not in await llama.sessions():
        return None
    return llama.session(id_)


@asynccontextmanager
async def _received(request: Request) -> AsyncGenerator[Path]:
    """The file that is sent, as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="llama-bridge-") as folder:
        path = Path(folder, "given.session")
        await _receive(request, path)
        yield path


async def _receive(request: Request, path: Path) -> None:
    """Write what is sent to a file."""
    size = request.headers.get("content-length", "")
    if not size.isdigit():
        raise Refused(411, "the request does not say how long it is: Content-Length")
    free = shutil.disk_usage(path.parent).free
    if int(size) + _SPARE > free:
        why = f"there is no room for it in {path.parent.parent}: it has {free / 1e9:,.2f} GB left"
        raise Refused(507, why)
    try:
        with path.open("xb") as file:
            async for piece in request.stream():
                await to_thread.run_sync(file.write, piece)
    except ClientDisconnect:
        raise ClientGone from None
    except OSError as error:
        why = f"it cannot be written in {path.parent.parent}: {error.strerror}: make room there"
        raise Refused(507, why) from error


def _kept(id_: str, owner: str, model: str, info: SessionInfo) -> Kept:
    """The conversation as one answer from which the next goes on."""
    said = [message for message in info.messages if message["role"] != "system"]
    if not said:
        why = "there are no messages in this session: it was not made by chatting"
        raise Refused(400, why, code="no_messages")
    response: Mapping[str, Any] = {
        "id": id_,
        "object": "response",
        "status": "completed",
        "model": model,
        "output": [],
    }
    return Kept(id_, owner, model, response, [dict(said[-1])], [dict(one) for one in said])


def _record(id_: str, model: str, info: SessionInfo) -> dict[str, Any]:
    return {
        "id": id_,
        "model": model,
        "messages": list(info.messages),
        "tokens": info.n_tokens,
        "cached": info.cached_tokens,
        "evaluated": info.evaluated_tokens,
        "bytes": info.n_bytes,
        "created": info.created,
        "replayed": info.replayed,
    }


def _checked(found: Verification) -> dict[str, Any]:
    """Values of a file may be long, and no text: the application shows some letters of each."""
    logits = found.logits
    return {
        "ok": found.ok,
        "tokens": found.n_tokens,
        "bytes": found.n_bytes,
        "refusal": found.refusal,
        "differing": [
            {"field": one.field, "saved": str(one.saved)[:80], "current": str(one.current)[:80]}
            for one in found.fields
            if not one.same
        ],
        "logits": logits
        and {"ok": logits.ok, "positions": logits.positions, "agreeing": logits.agreeing},
    }
