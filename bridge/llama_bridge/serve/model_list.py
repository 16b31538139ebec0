"""``/health``, ``/v1/models`` and ``/metrics``."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..capabilities import Capability, capability_names
from .metrics import CONTENT_TYPE
from .server import Server

__all__ = ["health", "list_models", "metrics", "one_model"]


async def health(server: Server, _request: Request) -> Response:
    """Whether the server answers."""
    return JSONResponse({"status": "ok"})


async def list_models(server: Server, _request: Request) -> Response:
    """The models that requests may name."""
    data = [_record(server, name) for name in server.models.names()]
    return JSONResponse({"object": "list", "data": data})


async def one_model(server: Server, request: Request) -> Response:
    """One of them."""
    name = request.path_params["name"]
    if name not in server.models.names():
        raise server.models.unknown(name)
    return JSONResponse(_record(server, name))


def _record(server: Server, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": server.created,
        "owned_by": "llama-bridge",
        "keeps_responses": server.responses.lasting,
    }
    for served in server.models.loaded():
        if server.models.same(name, served.name):
            able = served.llama.capabilities
            record["capabilities"] = capability_names(able)
            if Capability.TOKENS in able:
                record["n_ctx"] = served.llama.info.n_ctx
    return record


async def metrics(server: Server, _request: Request) -> Response:
    """What the server has done, for Prometheus."""
    return Response(server.meters.text(), media_type=CONTENT_TYPE)
