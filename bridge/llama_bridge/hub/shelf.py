"""All models on this disk: in the hub's cache, from addresses, and of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InvalidModel, ModelError, ModelNotFound
from ..models.name import AppName, HubName
from ..models.source import open_model
from ..progress import OnProgress
from .address_cache import kept_addresses
from .cache import blob_digest, hub_cache, hub_caches
from .digests import check_digest
from .llama_cpp import llama_cpp_models
from .lm_studio import lm_studio_models
from .ollama import ollama_models
from .repository import is_model, parts_in

__all__ = ["KeptModel", "Place", "kept_models", "model_of_app"]

Place = Literal["hub", "address", "llama.cpp", "ollama", "lmstudio"]


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model on this disk.

    Attributes:
        name: loads it.
        path: its file.
        place: who keeps it.
        size: bytes.
        quantisation: the tensor type that takes the most bytes, or None.
        architecture: in llama.cpp's words; empty if unknown.
        n_ctx_train: the context length it was trained with, or 0.
        sha256: by its place; None if that does not say.
        problem: why it cannot be loaded; empty if nothing is known against it.
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


def kept_models() -> list[KeptModel]:
    """All models, by place and name. Their headers are read, their weights are not."""
    found: list[KeptModel] = []
    for name, path, place, sha256 in _places():
        try:
            size = path.stat().st_size
        except OSError:  # removed meanwhile
            continue
        try:
            model = open_model(path)
        except ModelError as error:
            found.append(KeptModel(name, path, place, size, sha256=sha256, problem=error.reason))
            continue
        problem = ""
        if (parts := model.header.number("split.count", 1)) > 1:
            problem = f"one of {parts} files of a split model, which cannot be loaded yet"
        facts = (model.quantisation, model.architecture, model.n_ctx_train)
        found.append(KeptModel(name, path, place, size, *facts, sha256, problem))
    return found


def model_of_app(name: AppName, on_progress: OnProgress | None = None) -> Path:
    """The file of a model that Ollama or LM Studio has.

    Raises:
        ModelNotFound: none of that name; lists what there is.
        InvalidModel: it is a model in several files.
        DigestMismatch: it is damaged.
    """
    wanted = name.model.lower()
    there: list[str] = []
    for found, path, place, sha256 in _places():
        if place != name.app:
            continue
        there.append(found)
        known = found.partition(":")[2].lower()
        if wanted in (known, known.removesuffix(":latest")):
            if (parts := parts_in(path.name)) > 1:
                why = f"it is one of {parts} files of a split model, which cannot be loaded yet"
                raise InvalidModel(str(name), why, "split")
            if sha256 is not None:
                way_out = f"the file is damaged, and is not used: fetch it again with {name.app}"
                check_digest(path, sha256, str(name), way_out, on_progress)
            return path
    what = "\n".join(["It has:", *(f"  {each}" for each in there)]) if there else "It has none"
    raise ModelNotFound(str(name), f"{name.app} has no such model on this disk. {what}", there)


def _places() -> Iterator[tuple[str, Path, Place, str | None]]:
    """Of each file: the name that loads it, its path, who keeps it, its sha256 if its place says it."""
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


def _in_hub_cache(cache: Path, *, named: bool) -> Iterator[tuple[str, Path, Place, str | None]]:
    for folder in sorted(cache.glob("models--*--*/")):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        try:
            main = (folder / "refs" / "main").read_text().strip()
        except (OSError, ValueError):
            main = ""
        for snapshot in sorted((folder / "snapshots").glob("*/")):
            revision = None if snapshot.name == main else snapshot.name
            for path in sorted(snapshot.rglob("*.gguf")):
                if path.is_file() and is_model(path.name):
                    file = path.relative_to(snapshot).as_posix()
                    name = str(HubName(repo, file, None, revision)) if named else str(path)
                    yield name, path, "hub", blob_digest(path)
