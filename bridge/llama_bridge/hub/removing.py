"""Removes models from the hub's cache and from ours. What belongs to other programs stays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import InvalidInput, ModelError, ModelNotFound
from ..models.name import AppName, HubName, PathName, UrlName, read_name
from .address_cache import first_part
from .cache import blob_of
from .repository import RepoFile, Repository, named
from .shelf import KeptModel, kept_models
from .unfinished import (
    is_unfinished,
    nobody_else,
    remove_kept_address,
    remove_unfinished,
    remove_what_is_left,
    unfinished_models,
)

__all__ = ["models_named", "remove_model"]

_OTHERS = {
    "ollama": "it is Ollama's: remove it with ollama rm",
    "lmstudio": "it is LM Studio's: remove it there",
    "llama.cpp": "it is llama.cpp's: delete the file",
}

_TAG = ":latest"
"""What Ollama adds to a name without a tag."""


def models_named(text: str) -> list[KeptModel]:
    """The models on this disk that a name means: all files of a repository if it names none of them. Unfinished ones too.

    Raises:
        InvalidInput: it is no name.
        ModelNotFound: there is none; lists what there is.
    """
    there = [*kept_models(), *unfinished_models()]
    name = read_name(text)
    if isinstance(name, PathName) and name.instead is not None:
        name = name.instead
    found = [model for model in there if text in _exact_names(model)]
    if not found and isinstance(name, HubName):
        found = _of_repository(name, there)
    elif not found and isinstance(name, AppName):
        wanted = str(name).lower()
        found = [m for m in there if wanted in (m.name.lower(), m.name.lower().removesuffix(_TAG))]
    elif not found:
        lead = str(first_part(name)) if isinstance(name, UrlName) else str(name)
        found = [model for model in there if model.name == lead]
    if not found:
        names = [model.name for model in there]
        what = "\n".join(["There is:", *(f"  {each}" for each in names)]) if names else ""
        raise ModelNotFound(text, f"no such model on this disk. {what}".strip(), names)
    return found


def _exact_names(model: KeptModel) -> set[str]:
    """What means this model and no other. An unfinished file of the hub has only its path."""
    paths = {str(path) for path in model.files}
    return paths if is_unfinished(model) and model.place == "hub" else paths | {model.name}


def _of_repository(name: HubName, there: Sequence[KeptModel]) -> list[KeptModel]:
    found: list[KeptModel] = []
    for model in there:
        if model.place != "hub":
            continue  # others may be called anything
        other = read_name(model.name)
        if not isinstance(other, HubName) or other.repo != name.repo:
            continue
        if name.revision not in (None, "main", other.revision):
            continue
        if other.file is None:  # unfinished: which file it will be is not known
            if name.file is None and name.quantisation is None:
                found.append(model)
            continue
        folder = other.file.rpartition("/")[0]
        paths = [f"{folder}/{path.name}".lstrip("/") for path in model.files]
        one = Repository(name.repo, "", tuple(RepoFile(path, 0) for path in paths))
        with suppress(ModelError):
            named(one, name)
            found.append(model)
    return found


def remove_model(model: KeptModel) -> int:
    """Remove a model's file, or all its parts; returns how many bytes that frees: none if another commit has it too.

    Raises:
        InvalidInput: it belongs to another program.
        ModelError: it cannot be removed.
    """
    if (why := _OTHERS.get(model.place)) is not None:
        raise InvalidInput(f"{model.name} is not removed: {why}")
    try:
        if is_unfinished(model):
            return remove_unfinished(model)
        if model.place == "address":
            return remove_kept_address(model)
        return sum(_remove_from_hub_cache(model.name, path) for path in model.files)
    except OSError as error:
        why = error.strerror or str(error)
        raise ModelError(model.name, f"cannot be removed: {why}: {error.filename}") from error


def _remove_from_hub_cache(name: str, pointer: Path) -> int:
    snapshots = next(parent for parent in pointer.parents if parent.name == "snapshots")
    repo, blob = snapshots.parent, blob_of(pointer)
    if blob is None:
        return _remove_file(pointer, None, snapshots)
    with nobody_else(name, repo.parent / ".locks" / repo.name / f"{blob.name}.lock"):
        return _remove_file(pointer, blob, snapshots)


def _remove_file(pointer: Path, blob: Path | None, snapshots: Path) -> int:
    size = pointer.stat().st_size
    pointer.unlink()
    others = [path for path in snapshots.rglob("*") if path.is_file()]
    freed = size if blob is None else 0
    if blob is not None and blob not in {blob_of(path) for path in others}:
        freed = (
            0 if blob.is_symlink() else size
        )  # elsewhere, where huggingface_hub counts who needs it
        blob.unlink()
    for folder in pointer.parents:
        if folder == snapshots or any(folder.iterdir()):
            break
        folder.rmdir()
    if not others:
        remove_what_is_left(snapshots.parent)
    return freed
