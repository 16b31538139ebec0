"""``/app/models``: the models on this disk, how they come and go, and which of them is loaded. For a window only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from .. import registry
from ..capabilities import Capability
from ..errors import BackendUnavailable, BridgeError, ModelError
from ..hub.dropped import room_for_models, taking
from ..hub.find import is_there, pull_model
from ..hub.looking import look_at
from ..hub.removing import models_named, remove_model
from ..hub.shelf import KeptModel, kept_models
from ..hub.unfinished import is_unfinished, name_of_unfinished, unfinished_models
from ..models.name import PathName, read_name
from ..models.source import DEMO, ModelFile, open_model
from ..models.what_fits import what_fits
from ..progress import OnProgress
from .answering import ClientGone, while_connected
from .current_model import CurrentModel
from .fields import Fields
from .refusals import Refused
from .server import Server
from .steps import in_words, steps

__all__ = ["Library", "listed_name"]

_OURS = ("hub", "address")
"""Places from which models are removed here. What is elsewhere belongs to other programs."""


class Library:
    """What a window asks about models."""

    def __init__(self, models: CurrentModel) -> None:
        self._models = models
        self._paths: list[str] = []  # that somebody has named: nothing else would list them

    async def all(self, _server: Server, _request: Request) -> Response:
        """All models on this disk, and downloads that broke off."""
        others = [*self._models.names(), *self._paths]
        return JSONResponse(await to_thread.run_sync(_all, self._models.names(), others))

    async def look(self, server: Server, request: Request) -> Response:
        """What a name means, before it is fetched."""
        name = await server.read(request, _model)

        async def look() -> dict[str, Any]:
            return await to_thread.run_sync(_look, name, abandon_on_cancel=True)

        seen = await while_connected(request, look)
        if seen["place"] == "path" and seen["id"] not in self._paths:
            self._paths.append(seen["id"])
        return JSONResponse(seen)

    async def pull(self, server: Server, request: Request) -> Response:
        """Fetch a model, and tell how far that is. What an earlier try fetched is not fetched again."""
        name = await server.read(request, _model)

        async def pull(tell: OnProgress) -> dict[str, Any]:
            work = partial(_pull, name, tell)
            return {"id": await to_thread.run_sync(work, abandon_on_cancel=True)}

        return steps(pull, server.settings.read_seconds)

    async def take(self, _server: Server, request: Request) -> Response:
        """Keep a file that was dropped."""
        name = unquote(request.path_params["name"])
        size = request.headers.get("content-length", "")
        if not size.isdigit():
            raise Refused(411, "the request does not say how long it is: Content-Length")
        try:
            with taking(name, int(size)) as dropped:
                async for piece in request.stream():
                    await to_thread.run_sync(dropped.write, piece)
                path = await to_thread.run_sync(dropped.done)
        except ClientDisconnect:
            raise ClientGone from None
        except BridgeError as error:
            raise in_words(error) from error
        return JSONResponse({"id": str(path)})

    async def use(self, server: Server, request: Request) -> Response:
        """Load a model in place of the one that is loaded, and tell how far that is."""
        name, untrusted = await server.read(request, _use)

        async def use(tell: OnProgress) -> dict[str, Any]:
            await self._models.use(name, untrusted=untrusted, on_progress=tell)
            return {"id": name}

        return steps(use, server.settings.read_seconds)

    async def remove(self, server: Server, request: Request) -> Response:
        """Remove a model from this disk."""
        name = await server.read(request, _model)
        if name in self._models.names():
            raise Refused(409, f"{name} is loaded: load another model first", param="model")
        return JSONResponse({"freed": await to_thread.run_sync(_remove, name)})


def listed_name(name: str, path: Path) -> str:
    """The name by which a model is listed here that somebody has called otherwise.

    Args:
        name: as it was called.
        path: its file.
    """
    if name == DEMO:
        return name
    if isinstance(read_name(name), PathName) and is_there(name):
        return str(path)
    return next((model.name for model in kept_models() if path in model.files), name)


def _model(fields: Fields) -> str:
    name = fields.needed_text("model")
    fields.done()
    return name


def _use(fields: Fields) -> tuple[str, bool]:
    untrusted = fields.flag("untrusted")
    return _model(fields), untrusted


def _all(loaded: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    backend = _backend()
    found = [_kept(model, backend) for model in kept_models()]
    found += [_part(model) for model in unfinished_models()]
    used = sum(model["done"] or model["size"] for model in found)
    listed = {model["id"] for model in found}
    found += [_elsewhere(name, backend) for name in {DEMO, *others} - listed]
    for model in found:
        if model["id"] in loaded:
            model["state"] = "loaded"
    found.sort(key=lambda model: (_ORDER[model["state"]], model["name"].casefold()))
    return {
        "models": found,
        "used": used,
        "free": room_for_models(),
        "sandbox": bool(registry.available_in(Capability.SANDBOX)),
    }


_ORDER = {"loaded": 0, "here": 1, "part": 2}


def _kept(model: KeptModel, backend: str) -> dict[str, Any]:
    facts = _facts(model.name, model.path.stem, model.size, model.place)
    if model.problem:
        return facts | {"problem": model.problem.partition("\n")[0]}
    try:
        return facts | _of_file(open_model(model.path), backend)
    except ModelError as error:  # another window has removed it meanwhile
        return facts | {"problem": error.reason.partition("\n")[0]}


def _part(model: KeptModel) -> dict[str, Any]:
    """A download that broke off. Of the hub's, only the path is a name that means it and nothing else."""
    id_ = str(model.path) if model.place == "hub" else model.name
    facts = _facts(id_, model.name, 0, model.place)
    return facts | {"state": "part", "done": model.size}


def _elsewhere(name: str, backend: str) -> dict[str, Any]:
    """A model that is in no cache: the one in the package, or a path."""
    try:
        file = open_model(name)
    except BridgeError as error:  # it is gone
        return _facts(name, name, 0, "path") | {"problem": str(error).partition("\n")[0]}
    place = "package" if name == DEMO else "path"
    return _facts(name, Path(name).stem, _size(file), place) | _of_file(file, backend)


def _facts(id_: str, name: str, size: int, place: str | None) -> dict[str, Any]:
    stays = place not in _OURS
    state = {"state": "here", "done": None, "stays": stays}
    unknown = {"quantisation": None, "architecture": None, "problem": None, "fits": None}
    return {"id": id_, "name": name, "size": size, "place": place, **state, **unknown}


def _of_file(file: ModelFile, backend: str) -> dict[str, Any]:
    return {
        "quantisation": file.quantisation,
        "architecture": file.architecture,
        "fits": what_fits(file.header, file.n_ctx_train, backend),
    }


def _size(file: ModelFile) -> int:
    return sum(part.header.file_size for part in file.files)


def _backend() -> str:
    """The backend that would load a model; where there is none, the reason is told when somebody tries."""
    try:
        return registry.candidates()[0].name
    except BackendUnavailable:
        return ""


def _look(name: str) -> dict[str, Any]:
    name = _meant(name)
    try:
        looked = look_at(name)
    except BridgeError as error:
        raise in_words(error) from error
    file = looked.model
    is_path = looked.is_here and name != DEMO and isinstance(read_name(looked.name), PathName)
    id_, place = (str(file.path), "path") if is_path else (looked.name, None)
    facts = _facts(id_, file.path.stem, _size(file), place) | _of_file(file, _backend())
    return facts | {"state": "here" if looked.is_here else "away"}


def _pull(name: str, tell: OnProgress) -> str:
    """Fetch a model; returns the name that it is listed by."""
    path = pull_model(_meant(name), tell)
    for model in kept_models():
        if path in model.files:
            return model.name
    raise ModelError(name, "it was removed while it was being checked")


def _meant(name: str) -> str:
    """The name of what an unfinished download will be; any other as it is."""
    for model in unfinished_models():
        if str(model.path) == name:
            return name_of_unfinished(model)
    return name


def _remove(name: str) -> int:
    try:
        found = models_named(name)
        if len(found) > 1 or not (is_unfinished(found[0]) or found[0].name == name):
            raise Refused(400, f"{name} may be one of {len(found)}", param="model")
        return remove_model(found[0])
    except BridgeError as error:
        raise in_words(error) from error
