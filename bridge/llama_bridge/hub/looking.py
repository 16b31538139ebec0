"""Looks at a model without fetching it: what is on this disk as it is, of anything else only the header."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from ..errors import DigestMismatch, DownloadError, ModelError, ModelNotFound
from ..models.gguf import read_gguf
from ..models.name import HubName, PathName, UrlName, read_name
from ..models.source import ModelFile, open_model
from ..models.split import check_called, joined
from ..progress import OnProgress
from . import patience
from .address import getter
from .address_cache import kept_address, parts_of
from .answers import Get
from .asking import ask_hub, is_offline
from .beginning import UNKNOWN, Beginning
from .cache import RepoCache, hub_cache
from .find import find_model, is_there
from .repository import Repository, best_is_there, choose

__all__ = ["Looked", "look_at"]


@dataclass(frozen=True, slots=True)
class Looked:
    """A model that was looked at.

    Attributes:
        model: what its header says.
        name: the name that loads it.
        is_here: whether it is on this disk.
        received: bytes that were fetched to know it.
    """

    model: ModelFile
    name: str
    is_here: bool
    received: int = 0


class _OnServer:
    """A model's file on a server. Only its beginning can be read."""

    def __init__(self, name: str, get: Get, size: int | None) -> None:
        self.name = name
        self._get = get
        self._size = size

    def open(self) -> BinaryIO:
        """The beginning of it, as a file."""
        return cast("BinaryIO", self.beginning())

    def beginning(self) -> Beginning:
        """The same."""
        return Beginning(self.name, self._get, self._size)


def look_at(model: str, on_progress: OnProgress | None = None) -> Looked:
    """What a name means, in any of the forms of :mod:`llama_bridge.models.name`.

    What a server sends is not kept, and not checked against a digest: that is possible for whole files only.

    Raises:
        InvalidInput: it looks like a name, but is none.
        ModelNotFound: there is nothing of that name; lists what there is.
        InvalidModel: it is no usable GGUF file, or parts of different models.
        DownloadError: the server does not answer, refuses, or sends something else than it promised.
    """
    name = read_name(model)
    if isinstance(name, PathName):
        if name.instead is None or is_there(name.text):
            return Looked(open_model(model), model, True)
        name = name.instead
    if isinstance(name, UrlName):
        path = kept_address(name)
        if path is not None:
            return Looked(open_model(path), str(name), True)
        if is_offline():
            raise DownloadError(str(name), "offline mode (HF_HUB_OFFLINE) is on")
        parts = parts_of(name)
        return _on_server(str(name), [_OnServer(p.file_name, getter(p), None) for p in parts])
    if isinstance(name, HubName):
        return _on_hub(name)
    return Looked(open_model(find_model(model, on_progress)), model, True)


def _on_hub(name: HubName) -> Looked:
    cache = RepoCache(hub_cache(), name.repo)
    here = cache.at(name.revision)
    found = _in_cache(name, cache, here, anything=is_offline())
    if found is not None:
        return found
    try:
        repository, getter_of = ask_hub(name)
    except ModelError:
        if (found := _in_cache(name, cache, here, anything=True)) is None:
            raise
        return found
    files = choose(repository, name)
    exact = HubName(name.repo, files[0].path, None, name.revision)
    paths = [cache.pointer(repository.commit, file.path) for file in files]
    if all(os.path.exists(path) for path in paths):
        return Looked(open_model(paths[0]), str(exact), True)
    ones = [
        _OnServer(PurePosixPath(file.path).name, getter_of(exact, file.path), file.size)
        for file in files
    ]
    return _on_server(str(exact), ones)


def _in_cache(
    name: HubName, cache: RepoCache, here: Repository | None, *, anything: bool
) -> Looked | None:
    """What a load would take without asking the hub, or None. It is not hashed: nothing of it will be computed with."""
    is_open = name.file is None and name.quantisation is None
    if here is None or (is_open and not anything and not best_is_there(here)):
        return None
    try:
        file = choose(here, name)[0]
    except (ModelNotFound, DigestMismatch):
        if is_offline():
            raise
        return None
    model = open_model(cache.pointer(here.commit, file.path))
    return Looked(model, str(HubName(name.repo, file.path, None, name.revision)), True)


def _on_server(name: str, parts: list[_OnServer]) -> Looked:
    """A model in one file or several: each header is read, and they are joined."""
    seconds = patience.SECONDS + patience.SECONDS_FOR_A_PART * (len(parts) - 1)
    looked = patience.in_time(
        seconds, name, "its header", lambda: [_look(name, part) for part in parts]
    )
    models = [model for model, _ in looked]
    received = sum(size for _, size in looked)
    called = check_called(name, models[0].path.name, models[0].header)
    if called is None:
        return Looked(models[0], name, False, received)
    header = joined(name, called, [model.header for model in models])
    return Looked(replace(models[0], header=header, parts=tuple(models)), name, False, received)


def _look(name: str, source: _OnServer) -> tuple[ModelFile, int]:
    """A file's header, and how many bytes were fetched for it."""
    with source.beginning() as file:
        header = read_gguf(cast("BinaryIO", file), name)
        received = file.received
    if header.file_size == UNKNOWN:
        ends = (header.data_offset + t.offset + (t.n_bytes or 0) for t in header.tensors)
        header = replace(header, file_size=max(ends, default=header.data_offset))
    return ModelFile(Path(source.name), header, source=source), received
