"""``/v1/responses``: a response's id is a session, and each use forks it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..aio import AsyncLlamaBridge, AsyncSession, AsyncStream
from ..capabilities import Capability
from ..chat.stream import ChatEvent
from ..errors import BridgeError, InvalidInput, SessionError
from ..generation import Generation
from .answering import Emit, EventStream, while_connected
from .chat_request import ChatAsk
from .kept_responses import Kept, NotKept
from .refusals import Refused, naming
from .response_events import ResponseEvents, output_of
from .response_record import ResponseRecord
from .response_request import ResponseAsk, read_response
from .served import Served
from .server import Server
from .wording import checked_reason

__all__ = [
    "create_response",
    "delete_response",
    "forget",
    "input_items",
    "one_response",
    "owner_name",
]

_log = logging.getLogger(__name__)

_FIELDS = {"messages": "input", "max_tokens": "max_output_tokens", "logprobs": "top_logprobs"}


async def create_response(server: Server, request: Request) -> Response:
    """Answer, and keep the answer."""
    ask = await server.read(request, read_response)
    owner = owner_name(request)
    async with AsyncExitStack() as stack:
        turn = _Turn(server, owner, ask)
        await while_connected(request, lambda: turn.begin(stack))
        if ask.chat.stream:
            patience = server.settings.read_seconds
            return EventStream(turn.tell, turn.failed, stack.pop_all(), patience)
        return JSONResponse(await while_connected(request, turn.whole))
    raise AssertionError


async def one_response(server: Server, request: Request) -> Response:
    """A response that is kept."""
    kept = await server.responses.find(request.path_params["id"], owner_name(request))
    return JSONResponse(kept.response)


async def delete_response(server: Server, request: Request) -> Response:
    """Forget a response, and its session."""
    kept = await server.responses.find(request.path_params["id"], owner_name(request))
    await server.responses.remove(kept.id)
    await forget(server, [kept.id])
    return JSONResponse({"id": kept.id, "object": "response", "deleted": True})


async def input_items(server: Server, request: Request) -> Response:
    """What was said in the request of a response."""
    kept = await server.responses.find(request.path_params["id"], owner_name(request))
    data = [
        {"type": "message", "id": f"item_{kept.id[5:]}_{i}", **item}
        for i, item in enumerate(kept.items)
    ]
    ids = [item["id"] for item in data]
    ends = {"first_id": ids[0], "last_id": ids[-1], "has_more": False}
    return JSONResponse({"object": "list", "data": data, **ends})


def owner_name(request: Request) -> str:
    """A digest of the request's API key; empty if it needs none."""
    key: str = request.scope["llama_bridge.owner"]
    return hashlib.sha256(key.encode()).hexdigest()[:32] if key else ""


async def forget(server: Server, ids: Sequence[str]) -> None:
    """Delete the sessions of responses that are gone."""
    for served in server.models.loaded():
        if Capability.SESSION_TOOLS in served.llama.capabilities:
            for id_ in ids:
                if id_ in await served.llama.sessions():
                    await served.llama.session(id_).delete()


class _Turn:
    """One response, from the request until it is kept."""

    def __init__(self, server: Server, owner: str, ask: ResponseAsk) -> None:
        self._server = server
        self._owner = owner
        self._ask = ask
        self._session: AsyncSession | None = None
        self._kept = False
        self._first = server.meters.first_token(time.perf_counter())

    async def begin(self, stack: AsyncExitStack) -> None:
        """Start the answer, in a session of its own if it is kept."""
        ask, server = self._ask, self._server
        said: Sequence[Mapping[str, Any]] = ()
        if ask.previous is not None:
            place = "previous_response_id"
            before = await server.responses.find(ask.previous, self._owner, place)
            said = before.messages
            model = ask.chat.model
            if model is not None and not server.models.same(model, before.model):
                raise Refused(
                    400,
                    f"the response was made with the model {before.model!r}: give that one",
                    param="model",
                    code="response_of_other_model",
                )
            ask = replace(ask, chat=replace(ask.chat, model=before.model))
        self._served = served = await stack.enter_async_context(server.work(ask.chat.model))
        stack.push_async_callback(self._forget_unless_kept)
        self._messages = [*said, *ask.chat.messages]
        id_ = server.responses.new_id(self._owner)
        where = await self._where(served.llama, id_) if ask.store else served.llama
        system = ask.instructions
        messages = [{"role": "system", "content": system}] if system is not None else []
        chat = replace(ask.chat, messages=[*messages, *self._messages])
        self._record = ResponseRecord(id_, served.name, ask, _sampling(served, chat))
        self._answer: AsyncStream[ChatEvent, Generation] = where.chat_stream(
            chat.messages, **chat.arguments(0)
        )
        shaped_by = {"json_schema": "tools" if chat.tools else "text.format"}
        with server.beginning(), naming(_FIELDS | shaped_by):
            await stack.enter_async_context(self._answer)

    async def _where(self, llama: AsyncLlamaBridge, id_: str) -> AsyncLlamaBridge | AsyncSession:
        """The session of the response: a fork of the one before, whose KV cache has what was said."""
        if Capability.SESSION_TOOLS not in llama.capabilities:
            return llama  # the messages are kept, and the prefix cache does what it can
        previous = self._ask.previous
        if previous is not None and await self._has(llama, previous):
            try:
                self._session = await llama.session(previous).fork(id_)
            except InvalidInput:  # it was deleted a moment ago
                pass
            except SessionError as error:  # what was said is evaluated again
                _log.warning("the session of a response cannot be used: %s", error)
        if self._session is None:
            self._session = llama.session(id_)
        return self._session

    async def _has(self, llama: AsyncLlamaBridge, id_: str) -> bool:
        """Whether the session of a response is here, or has come here now."""
        return id_ in await llama.sessions() or await self._server.responses.bring(llama, id_)

    async def whole(self) -> dict[str, Any]:
        """The response, once it is whole."""
        result = await self._answer.result()
        checked_reason(result)
        response = self._record.ended(result, output_of(result), await self._thoughts(result))
        await self._keep(result, response)
        return response

    async def tell(self, emit: Emit) -> None:
        """Send the response's events."""
        self._events = events = ResponseEvents(self._record, emit)
        await events.begin()
        await events.follow(self._answer, self._first)
        result = await self._answer.result()
        checked_reason(result)
        thoughts = await self._thoughts(result)
        await events.end(result, thoughts, self._keep)

    def failed(self, refused: Refused) -> bytes:
        """The event that tells an error."""
        return self._events.failed(refused)

    async def _thoughts(self, result: Generation) -> int:
        """How many tokens the reasoning has, if any."""
        if not result.reasoning:
            return 0
        return len(await self._served.llama.tokenize(result.reasoning, add_special=False))

    async def _keep(self, result: Generation, response: dict[str, Any]) -> None:
        """Keep the response before the client is told that it is whole; what could not be kept is told, too."""
        self._server.meters.answered(result)
        if not self._ask.store:
            return
        messages = [*self._messages, result.message]
        kept = Kept(
            self._record.id, self._owner, self._served.name, response, self._ask.items, messages
        )
        try:
            gone = await self._server.responses.keep(kept)
        except NotKept as error:
            gone = error.gone
            response["store"] = False
        self._kept = True
        if self._session is not None:
            self._server.responses.carry(self._served.llama, kept.id)
        await forget(self._server, gone)

    async def _forget_unless_kept(self) -> None:
        """A session whose response was never told has no use."""
        if self._session is not None and not self._kept:
            with anyio.CancelScope(shield=True), suppress(BridgeError):
                await self._session.delete()


def _sampling(served: Served, ask: ChatAsk) -> dict[str, Any]:
    """The settings that a response tells."""
    settings = ask.settings or {}
    return {
        name: settings.get(name, getattr(served.llama.sampling, name))
        for name in ("temperature", "top_p")
    }
