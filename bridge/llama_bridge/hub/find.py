"""The way in: a model's name to something that opens."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DigestMismatch, InvalidInput, ModelError, ModelNotFound
from ..models.name import AppName, HubName, PathName, UrlName, read_name
from ..models.source import ModelSource
from ..progress import OnProgress
from .asking import ask_hub, is_offline

if TYPE_CHECKING:
    from .cache import RepoCache
    from .repository import RepoFile, Repository

__all__ = ["find_model", "is_there", "pull_model"]

_log = logging.getLogger(__name__)

Found = str | os.PathLike[str] | ModelSource


def find_model(
    model: str | os.PathLike[str] | ModelSource, on_progress: OnProgress | None = None
) -> Found:
    """What a model is read from: a path or ``"demo"`` or a source as it is, any other name as a file on this disk.

    Of a split model it is the first part; the others are beside it.

    What is there already is used as it is, and nobody is asked, unless the name leaves open which file of a repository is
    meant and the best one is not there. It is fetched if it is not there.

    Args:
        model: as people write it; see :mod:`llama_bridge.models.name`.
        on_progress: called with the progress of ``"download"`` and ``"verify"``.

    Raises:
        InvalidInput: it looks like a name, but is none.
        ModelNotFound: there is nothing of that name; lists what there is.
        DownloadError: it could not be fetched.
        InvalidModel: what is there, or what arrived, is no usable GGUF file.
    """
    name = read_name(model) if isinstance(model, str) else None
    if isinstance(name, PathName):
        name = None if is_there(name.text) else name.instead
    return model if name is None else _file_of(name, on_progress, refresh=False)


def pull_model(model: str, on_progress: OnProgress | None = None) -> Path:
    """Fetch a model, or a newer one than there is, and return its path. A damaged file is replaced.

    Raises:
        InvalidInput: it is a path, or no name at all.
        ModelNotFound, DownloadError, InvalidModel: as for :func:`find_model`.
    """
    name = read_name(model)
    if isinstance(name, PathName) and name.instead is not None:
        name = name.instead
    if isinstance(name, PathName | AppName):
        raise InvalidInput(
            f"model={model!r}: this is on the disk already or nowhere: give hf:org/repo or https://…"
        )
    return _file_of(name, on_progress, refresh=True)


def _file_of(
    name: HubName | UrlName | AppName, on_progress: OnProgress | None, *, refresh: bool
) -> Path:
    if sys.platform == "emscripten":  # a page has no such disk
        raise ModelNotFound(
            str(name),
            "a page loads models with llama_bridge_wasm.store: ModelStore().download(url)",
        )
    if isinstance(name, AppName):
        from .shelf import model_of_app  # as below: 20 ms, only for a model by name

        return model_of_app(name, on_progress)
    if isinstance(name, UrlName):
        from .address import getter  # 40 ms: most models are paths
        from .address_cache import fetch_address

        return fetch_address(name, getter, on_progress, refresh=refresh, offline=is_offline())
    return _from_hub(name, on_progress, refresh=refresh)


def _from_hub(name: HubName, on_progress: OnProgress | None, *, refresh: bool) -> Path:
    from .cache import RepoCache, hub_cache  # 20 ms, only for a model by name
    from .fetching import check_room, fetch
    from .of_all import OfAll
    from .repository import choose

    cache = RepoCache(hub_cache(), name.repo)
    here = cache.at(name.revision)
    if not refresh or is_offline():
        found = _in_cache(name, cache, here, on_progress)
        if found is not None:
            return found
    try:
        repository, getter = ask_hub(name)
    except ModelError as error:
        found = _in_cache(name, cache, here, on_progress, anything=True) if not refresh else None
        if found is None:
            raise
        _log.warning("%s; using what is in the cache: %s", error, found)
        return found
    files = choose(repository, name)
    check_room(name, cache, files)
    told = OfAll(on_progress, sum(file.size for file in files))
    paths: list[Path] = []
    for file in files:
        its, where = _one_of(name, files, file), (cache, repository.commit, file)
        get = getter(its, file.path)
        paths.append(fetch(its, *where, get, told.next(file.size), replace=refresh))
    return paths[0]


def _in_cache(
    name: HubName,
    cache: RepoCache,
    here: Repository | None,
    on_progress: OnProgress | None,
    *,
    anything: bool = False,
) -> Path | None:
    """The file in the cache, or the first part of a split model, checked; None if the hub has to be asked.

    Args:
        name: what is looked for.
        cache: where.
        here: what is there.
        on_progress: told of ``"verify"``.
        anything: whether a file will do that could be another one on the hub, or whose digest nobody knows.
    """
    from .digests import check_digest, file_digest, known_digest  # as in _from_hub(): 20 ms
    from .of_all import OfAll
    from .repository import best_is_there, choose

    anything = anything or is_offline()
    if here is None:
        return None
    try:
        files = choose(here, name)
    except (ModelNotFound, DigestMismatch):
        if is_offline():
            raise
        return None
    is_open = name.file is None and name.quantisation is None
    if is_open and not anything and not best_is_there(here):
        return None
    paths = [cache.pointer(here.commit, file.path) for file in files]
    digests = [file.sha256 or known_digest(path) for file, path in zip(files, paths, strict=True)]
    if None in digests and not anything:
        return None
    told = OfAll(on_progress, sum(file.size for file in files))
    for file, path, sha256 in zip(files, paths, digests, strict=True):
        tell = told.next(file.size)
        if sha256 is None:
            _log.warning("%s: nobody here knows its sha256, so it is not checked", path)
            sha256 = file_digest(path, tell)
        way_out = f"the file in the cache is damaged, and is not used: llama-bridge pull {name}"
        check_digest(
            path, sha256, str(_one_of(name, files, file)), f"{way_out} fetches it again", tell
        )
    return paths[0]


def _one_of(name: HubName, files: Sequence[RepoFile], file: RepoFile) -> HubName:
    """The name of a file: as it was asked for, or of the part."""
    exact = replace(name, file=file.path, quantisation=None, sha256=None)
    return name if len(files) == 1 else exact


def is_there(text: str) -> bool:
    """Whether a path leads to something."""
    with suppress(ValueError):
        return os.path.exists(os.path.expanduser(text))
    return False
