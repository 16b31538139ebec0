"""The ASGI application: which address is answered by what."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..aio import AsyncLlamaBridge
from ..bridge import LlamaBridge
from ..checks import full_path, shown
from ..errors import BridgeError, InvalidInput, NoModel, PathLike
from .about_model import about_model
from .answering import ClientGone
from .chat_completions import chat_completions
from .completions import completions
from .embeddings import embeddings, rerank
from .front_page import FILES, front_page
from .guard import Guard
from .kept_responses import Responses
from .model_list import health, list_models, metrics, one_model
from .observing import Observer
from .refusals import Refused, on_error
from .response_store import ResponseStore
from .responses import create_response, delete_response, input_items, one_response
from .served import Models, OneModel
from .server import Server
from .settings import ServerSettings

__all__ = ["app", "application"]

Answers = Callable[[Server, Request], Awaitable[Response]]


def app(
    llama: LlamaBridge | AsyncLlamaBridge,
    *,
    name: str | Sequence[str] | None = None,
    settings: ServerSettings | None = None,
    responses_dir: PathLike | None = None,
) -> Starlette:
    """An ASGI application that answers with a loaded model. Mount it in yours, or give it to uvicorn.

    It does not close the bridge.

    Args:
        llama: a bridge with a model.
        name: the model's name in requests; several are names of the same model. None takes the file's.
        settings: keys and bounds; the default needs no key, and is for this machine only.
        responses_dir: folder that keeps responses over restarts, for this application alone; None keeps them in memory.
            Their KV caches are the bridge's, in its ``sessions_dir``.

    Raises:
        InvalidInput.
        NoModel: none is loaded, and there is no name.
    """
    if isinstance(llama, LlamaBridge):
        llama = AsyncLlamaBridge.of(llama)
    if not isinstance(llama, AsyncLlamaBridge):
        raise InvalidInput(f"llama={shown(llama)}: give a LlamaBridge or AsyncLlamaBridge")
    if settings is not None and not isinstance(settings, ServerSettings):
        raise InvalidInput(f"settings={shown(settings)}: give ServerSettings, or None")
    models = OneModel(llama, _names(llama, name))
    return application(models, settings or ServerSettings(), responses_dir)


def _names(llama: AsyncLlamaBridge, name: str | Sequence[str] | None) -> Sequence[str]:
    if name is None:
        try:
            return (llama.model.path.stem,)
        except NoModel as error:
            raise NoModel(f"{error}; or give a name") from error
    names = (name,) if isinstance(name, str) else name
    given: object = names
    listed = isinstance(given, list | tuple) and given
    if not listed or not all(isinstance(one, str) and one for one in names):
        raise InvalidInput(f"name={shown(name)}: give a string that is not empty, or several")
    return names


def application(
    models: Models,
    settings: ServerSettings,
    responses: Responses | PathLike | None,
    conversations: Path | None = None,
) -> Starlette:
    """An ASGI application that answers with some models.

    Args:
        models: answer.
        settings: keys and bounds.
        responses: where responses are kept.
        conversations: where those of the chat application are kept, in a window of its own, which may do more: see
            :mod:`.window`. None leaves them to its browser.
    """
    if not isinstance(responses, Responses):
        folder = None if responses is None else full_path("responses_dir", responses)
        responses = ResponseStore(folder, settings.max_responses)
    server = Server(models, settings, responses)

    def route(path: str, answers: Answers, method: str) -> Route:
        return Route(path, partial(answers, server), methods=[method])

    middleware = [Middleware(Observer, seen=server.seen)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["Retry-After"],
            )
        )
    own: list[Route] = []
    uploads: tuple[str, ...] = ()
    if conversations is not None:
        from .window import UPLOADS, window_routes  # 30 ms: only a window needs it

        own = [route(*one) for one in window_routes(conversations, models)]
        uploads = UPLOADS
    middleware.append(Middleware(Guard, settings=settings, uploads=uploads))
    routes = [
        *(route(path, front_page, "GET") for path in FILES),
        route("/health", health, "GET"),
        route("/metrics", metrics, "GET"),
        route("/v1/models", list_models, "GET"),
        route("/v1/models/{name:path}", one_model, "GET"),
        route("/app/about", about_model, "GET"),
        route("/v1/chat/completions", chat_completions, "POST"),
        route("/v1/completions", completions, "POST"),
        route("/v1/responses", create_response, "POST"),
        route("/v1/responses/{id}", one_response, "GET"),
        route("/v1/responses/{id}", delete_response, "DELETE"),
        route("/v1/responses/{id}/input_items", input_items, "GET"),
        route("/v1/embeddings", embeddings, "POST"),
        route("/v1/rerank", rerank, "POST"),
        *own,
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        async with anyio.create_task_group() as group:
            group.start_soon(models.watch)
            group.start_soon(responses.watch)
            yield
            group.cancel_scope.cancel()
        await responses.finish()
        await models.close()
        server.responses.close()

    server.paths = frozenset(one.path for one in routes)
    made = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={
            Refused: on_error,
            BridgeError: on_error,
            HTTPException: on_error,
            ClientGone: _nobody,
            Exception: on_error,
        },
    )
    made.router.redirect_slashes = False  # another address is an error, as each is told
    return made


async def _nobody(_request: Request, _error: Exception) -> Response:
    """What is sent to nobody. 499 is what servers write into their logs then."""
    return Response(status_code=499)
