"""``/app/about``: what a loaded model can do here, and why it cannot do the rest. The chat application shows it."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..aio import AsyncLlamaBridge
from ..capabilities import Capability
from ..errors import ClosedError, NoModel, UnsupportedCapability
from .served import Served
from .server import Server

__all__ = ["about_model"]


async def about_model(server: Server, request: Request) -> Response:
    """Of ``?model=``, or of the one that is loaded; null if it is not loaded."""
    name = request.query_params.get("model")
    models = server.models
    for served in models.loaded():
        if name is None or models.same(name, served.name):
            try:
                return JSONResponse(await to_thread.run_sync(_about, served))
            except (ClosedError, NoModel):  # it is being unloaded
                continue
    return JSONResponse(None)


def _about(served: Served) -> dict[str, Any]:
    llama = served.llama
    known = Capability.TOKENS in llama.capabilities
    return {
        "id": served.name,
        "backend": llama.backend,
        "threads": llama.info.n_threads if known else None,
        "context": llama.info.n_ctx if known else None,
        "untrusted": Capability.SANDBOX in llama.capabilities,
        "flags": [_flag(llama, flag) for flag in Capability],
    }


def _flag(llama: AsyncLlamaBridge, flag: Capability) -> dict[str, Any]:
    name = (flag.name or "").lower()
    try:
        llama.requires(flag)
    except UnsupportedCapability as error:
        return {"name": name, "has": False, "why": error.why, "elsewhere": list(error.available_in)}
    return {"name": name, "has": True, "why": "", "elsewhere": []}
