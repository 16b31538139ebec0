"""A model's name in a page: the addresses of its files, and what must arrive from each."""

# JavaScript is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from llama_bridge.errors import AccessDenied, InvalidInput, ModelNotFound
from llama_bridge.hub.answers import Answer, refused
from llama_bridge.hub.repository import RepoFile, Repository, choose
from llama_bridge.models.name import AppName, HubName, PathName, read_name

from ..page import JsException, js, new
from .errors import DownloadError
from .patience import SILENT, answered

__all__ = ["HUB", "addresses_of", "expected_of", "without_digest"]

HUB = "https://huggingface.co"
"""Where names of the hub are looked up. It allows requests from any page."""

_FRAGMENT = re.compile(r"#sha256[=:]([0-9a-fA-F]{64})$")
_PROMISE = re.compile(r"#sha256(?![^=:])", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LARGEST = 8 << 20


async def addresses_of(model: str, hub: str = HUB) -> list[str] | None:
    """The addresses of a model on the hub, each with ``#sha256=`` and what must arrive; None for any other address.

    Raises:
        InvalidInput: it begins like a name of the hub, but is none; or it ends with half a digest.
        ModelNotFound: there is nothing of that name; lists what there is.
        DigestMismatch: the hub has another file than the name says.
        DownloadError: the hub does not answer, or refuses; AccessDenied and RateLimited among these.
    """
    if _PROMISE.search(model) and not _FRAGMENT.search(model):
        why = "a sha256 has 64 hexadecimal digits: #sha256=<hex> at the end"
        raise InvalidInput(f"model={model!r}: {why}")
    if _ADDRESS.match(model) and "huggingface.co/" not in model and "hf.co/" not in model:
        return None
    name = read_name(model)
    if isinstance(name, PathName) and name.instead is not None:
        name = name.instead
    if isinstance(name, AppName):
        raise ModelNotFound(model, f"a page cannot see what {name.app} has: drop the file on it")
    if not isinstance(name, HubName):
        return None
    repository = await _ask(name, hub.rstrip("/"))
    return [
        f"{hub.rstrip('/')}/{name.repo}/resolve/{repository.commit}/{quote(file.path)}"
        + f"#sha256={file.sha256}" * bool(file.sha256)
        for file in choose(repository, name)
    ]


def expected_of(url: str) -> str | None:
    """The sha256 that an address says must arrive."""
    found = _FRAGMENT.search(url)
    return found[1].lower() if found else None


def without_digest(url: str) -> str:
    """The address itself."""
    return _FRAGMENT.sub("", url)


async def _ask(name: HubName, hub: str) -> Repository:
    revision = quote(name.revision or "main", safe="")
    url = f"{hub}/api/models/{name.repo}/revision/{revision}?blobs=true"
    options = new(js.Object)
    options.cache = "no-store"
    try:
        response = await answered(js.fetch(url, options))
        status, text = int(response.status), str(await answered(response.text()))
        headers = {key: response.headers.get(key) or "" for key in ("retry-after", "x-error-code")}
    except TimeoutError as error:
        raise DownloadError(str(name), f"{hub} {SILENT}") from error
    except JsException as error:
        words = str(getattr(error, "message", error))
        why = f"{hub} did not answer ({words}): is this page offline, or may it not connect there (Content-Security-Policy)?"
        raise DownloadError(str(name), why) from error
    if status != 200:
        raise _refused(name, hub, status, headers)
    try:
        if len(text) > _LARGEST:
            raise ValueError("it is too long")
        return _repository(name, json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DownloadError(str(name), f"{hub} does not answer like the hub ({error})") from error


def _repository(name: HubName, told: dict[str, Any]) -> Repository:
    if not _COMMIT.fullmatch(commit := str(told["sha"])):
        raise ValueError("it names no commit")
    files: list[RepoFile] = []
    for file in cast("list[dict[str, Any]]", told["siblings"]):
        digest = str((file.get("lfs") or {}).get("sha256", ""))
        known = digest if _SHA256.fullmatch(digest) else None
        files.append(RepoFile(str(file["rfilename"]), int(file.get("size") or 0), known))
    return Repository(name.repo, commit, tuple(files))


def _refused(name: HubName, hub: str, status: int, headers: Mapping[str, str]) -> Exception:
    if status in (401, 403):
        why = f"there is no such repository, or it is private, or wants terms accepted: see {hub}/{name.repo}"
        return AccessDenied(str(name), why, status=status)
    if status in (404, 410):
        what = f"revision {name.revision}" if name.revision else f"repository {name.repo}"
        return ModelNotFound(str(name), f"there is no {what} on {hub}: check the spelling")
    return refused(str(name), Answer(status, headers, iter(())))
