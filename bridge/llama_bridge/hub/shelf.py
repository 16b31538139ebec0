"""All models on this disk: in the hub's cache, from addresses, and of other programs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..errors import InvalidInput, ModelError, ModelNotFound
from ..models.name import AppName, HubName, read_name
from ..models.part_name import read_part_name
from ..models.source import open_model
from ..progress import OnProgress
from .address_cache import kept_addresses
from .cache import blob_digest, hub_cache, hub_caches
from .digests import check_digest
from .folders import matching
from .llama_cpp import llama_cpp_models
from .lm_studio import lm_studio_models
from .ollama import ollama_models
from .repository import is_model

__all__ = ["KeptModel", "Place", "kept_models", "model_of_app", "name_or_path"]

Place = Literal["hub", "address", "llama.cpp", "ollama", "lmstudio"]


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model on this disk.

    Attributes:
        name: loads it.
        path: its file, or the first part of a split model.
        place: who keeps it.
        size: bytes, of all parts.
        quantisation: the tensor type that takes the most bytes, or None.
        architecture: in llama.cpp's words; empty if unknown.
        n_ctx_train: the context length it was trained with, or 0.
        sha256: by its place; None if that does not say, and for a split model, which has many.
        problem: why it cannot be loaded; empty if nothing is known against it.
        files: the parts that are there, in order, or the one file.
    """

    name: str
    path: Path
    place: Place
    size: int
    quantisation: str | None = None
    architecture: str = ""
    n_ctx_train: int = 0
    sha256: str | None = None
    problem: str = ""
    files: tuple[Path, ...] = ()


def kept_models() -> list[KeptModel]:
    """All models, by place and name. Their headers are read, their weights are not."""
    found: list[KeptModel] = []
    for files in _models():
        name, path, place, sha256 = files[0]
        paths = tuple(file[1] for file in files)
        try:
            size = sum(path.stat().st_size for path in paths)
        except OSError:  # removed meanwhile
            continue
        about = partial(KeptModel, name, path, place, size, files=paths)
        sha256 = sha256 if len(files) == 1 else None
        try:
            model = open_model(path)
        except ModelError as error:
            found.append(about(sha256=sha256, problem=error.reason))
            continue
        facts = (model.quantisation, model.architecture, model.n_ctx_train)
        found.append(about(*facts, sha256))
    return found


def model_of_app(name: AppName, on_progress: OnProgress | None = None) -> Path:
    """The file of a model that Ollama or LM Studio has, or the first part of a split one.

    Raises:
        ModelNotFound: none of that name; lists what there is.
        DigestMismatch: it is damaged.
    """
    wanted = name.model.lower()
    there: list[str] = []
    for files in _models():
        found, path, place, sha256 = files[0]
        if place != name.app:
            continue
        there.append(found)
        if wanted in _names(files):
            if sha256 is not None:
                way_out = f"the file is damaged, and is not used: fetch it again with {name.app}"
                check_digest(path, sha256, str(name), way_out, on_progress)
            return path
    what = "\n".join(["It has:", *(f"  {each}" for each in there)]) if there else "It has none"
    raise ModelNotFound(str(name), f"{name.app} has no such model on this disk. {what}", there)


def _names(files: Sequence[_File]) -> set[str]:
    """What a model of an app may be called, in lower case: by any part, or without the number."""
    known = {file[0].partition(":")[2].lower() for file in files}
    for part in filter(None, map(read_part_name, tuple(known))):
        known |= {part.base, part.whole}
    return known | {each.removesuffix(":latest") for each in known}


_File = tuple[str, Path, Place, str | None]
"""The name that loads it, its path, who keeps it, its sha256 if its place says it."""


def _models() -> list[list[_File]]:
    """The files of each model: one, or the parts of a split one in order."""
    models: dict[object, list[_File]] = {}
    for file in _places():
        part = read_part_name(file[1].name)
        key = (file[2], file[1].parent, part.base.lower(), part.count) if part else file[:2]
        models.setdefault(key, []).append(file)
    return [sorted(files, key=_number) for files in models.values()]


def _number(file: _File) -> int:
    part = read_part_name(file[1].name)
    return part.number if part else 1


def _places() -> Iterator[_File]:
    for cache in hub_caches():
        yield from _in_hub_cache(cache, named=cache == hub_cache())
    for name, path in kept_addresses():
        yield name, path, "address", None
    for path in llama_cpp_models():
        yield str(path), path, "llama.cpp", None
    for model, path, sha256 in ollama_models():
        yield f"ollama:{model}", path, "ollama", sha256
    for model, path in lm_studio_models():
        yield f"lmstudio:{model}", path, "lmstudio", None


def _in_hub_cache(cache: Path, *, named: bool) -> Iterator[_File]:
    for folder in matching(cache, "models--*--*/"):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        try:
            main = (folder / "refs" / "main").read_text().strip()
        except (OSError, ValueError):
            main = ""
        for snapshot in matching(folder / "snapshots", "*/"):
            revision = None if snapshot.name == main else snapshot.name
            for path in matching(snapshot, "**/*.gguf"):
                if os.path.isfile(path) and is_model(path.name):
                    file = path.relative_to(snapshot).as_posix()
                    name = HubName(repo, file, None, revision)
                    shown = name_or_path(name, path) if named else str(path)
                    yield shown, path, "hub", blob_digest(path)


def name_or_path(name: HubName, path: Path) -> str:
    """The name of a file in the hub's cache; its path, if somebody called a folder there what nothing on the hub is called."""
    try:
        is_name = read_name(str(name)) == name
    except InvalidInput:
        is_name = False
    return str(name) if is_name else str(path)
