"""Downloads that broke off. The next pull goes on with them; until then they take room on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError
from ..files.locking import try_lock
from ..models.name import HubName
from .address_cache import unfinished_addresses
from .cache import hub_cache, hub_caches
from .folders import matching
from .shelf import KeptModel, Place

__all__ = ["is_unfinished", "remove_unfinished", "unfinished_models"]

_SUFFIX = ".incomplete"


def unfinished_models() -> list[KeptModel]:
    """What has arrived of each. Of a file of the hub only its repository is known: that is its name."""
    found: list[KeptModel] = []
    for cache in hub_caches():
        for folder in matching(cache, "models--*--*/"):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            for path in matching(folder, f"blobs/*{_SUFFIX}"):
                name = str(HubName(repo, None, None, None)) if cache == hub_cache() else str(path)
                found += _noted(name, path, "hub")
    for name, path in unfinished_addresses():
        found += _noted(name, path, "address")
    return found


def is_unfinished(model: KeptModel) -> bool:
    """Whether it is one of these."""
    return model.path.suffix == _SUFFIX


def remove_unfinished(model: KeptModel) -> int:
    """Remove what has arrived; returns how many bytes that frees.

    Raises:
        ModelError: somebody is fetching it.
        OSError: it cannot be removed.
    """
    path, folder = model.path, model.path.parent
    if model.place == "address":
        lock = folder / "lock"
    else:
        folder = folder.parent
        lock = folder.parent / ".locks" / folder.name / f"{path.stem}.lock"
    with _nobody_else(model.name, lock):
        path.unlink()
        left = [each for each in folder.rglob("*") if each.is_file() or each.is_symlink()]
        if not any(_is_of_a_model(each) for each in left):
            shutil.rmtree(folder)
    return model.size


def _noted(name: str, path: Path, place: Place) -> list[KeptModel]:
    why = "an unfinished download: llama-bridge pull goes on with it, llama-bridge rm removes it"
    try:
        return [KeptModel(name, path, place, path.stat().st_size, problem=why, files=(path,))]
    except OSError:  # it has arrived meanwhile
        return []


def _is_of_a_model(path: Path) -> bool:
    return path.name != "lock" and path.suffix != ".json" and path.parent.name != "refs"


@contextmanager
def _nobody_else(name: str, lock: Path) -> Generator[None]:
    """Hold what is held while a file is fetched."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        if not try_lock(handle):
            raise ModelError(name, "it is being fetched: stop that first")
        yield
    finally:
        os.close(handle)
