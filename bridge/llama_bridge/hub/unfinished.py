"""Downloads that broke off. The next pull goes on with them; until then they take room on the disk."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ModelError, ModelNotFound
from ..models.name import HubName, read_name
from .address_cache import unfinished_addresses
from .asking import ask_hub
from .cache import hub_cache, hub_caches
from .fetching import is_mine
from .folders import matching
from .shelf import KeptModel, Place, name_or_path

__all__ = [
    "is_unfinished",
    "name_of_unfinished",
    "nobody_else",
    "remove_kept_address",
    "remove_unfinished",
    "remove_what_is_left",
    "unfinished_models",
]

_SUFFIX = ".incomplete"
_OURS = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_GOES_ON = "an unfinished download: llama-bridge pull goes on with it, llama-bridge rm removes it"
_OF_ANOTHER = "an unfinished download of huggingface_hub: llama-bridge rm removes it"


def unfinished_models() -> list[KeptModel]:
    """What has arrived of each. Of a file of the hub only its repository is known: that is its name."""
    found: list[KeptModel] = []
    for cache in hub_caches():
        for folder in matching(cache, "models--*--*/"):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            for path in matching(folder, f"blobs/*{_SUFFIX}"):
                why = _GOES_ON if _OURS.fullmatch(path.name) else _OF_ANOTHER
                name = name_or_path(HubName(repo), path) if cache == hub_cache() else str(path)
                found += _noted(name, path, "hub", why)
    for name, path in unfinished_addresses():
        found += _noted(name, path, "address", _GOES_ON)
    return found


def is_unfinished(model: KeptModel) -> bool:
    """Whether it is one of these."""
    return model.path.suffix == _SUFFIX


def name_of_unfinished(model: KeptModel) -> str:
    """The name that goes on with it. Of a file of the hub only the digest is known here, so the hub is asked whose it is.

    Raises:
        ModelNotFound: the hub has no such file any more.
        DownloadError: it does not answer.
    """
    repo = read_name(model.name)
    if model.place != "hub" or not isinstance(repo, HubName):
        return model.name
    digest = model.path.name.partition(".")[0]
    for file in ask_hub(repo)[0].files:
        if file.sha256 == digest:
            return str(HubName(repo.repo, file.path))
    raise ModelNotFound(
        str(model.path), f"{model.name} has no such file any more: remove it, and get another"
    )


def remove_unfinished(model: KeptModel) -> int:
    """Remove what has arrived; returns how many bytes that frees.

    Raises:
        ModelError: somebody is fetching it.
        OSError: it cannot be removed.
    """
    path, folder = model.path, model.path.parent
    if model.place == "address":
        with nobody_else(model.name, folder / "lock"):
            path.unlink()
            is_empty = _has_no_model(folder)
            if is_empty:
                _remove_but_lock(folder)
        if is_empty and sys.platform == "win32":
            shutil.rmtree(folder)
        return model.size
    folder = folder.parent
    # huggingface_hub calls what it fetches <digest>.<anything>.incomplete, and holds the lock of the digest.
    lock = folder.parent / ".locks" / folder.name / f"{path.name.partition('.')[0]}.lock"
    with nobody_else(model.name, lock):
        path.unlink()
        if _has_no_model(folder):
            remove_what_is_left(folder)
    return model.size


def remove_what_is_left(repo: Path) -> None:
    """Remove a repository without models, but nothing that somebody fetches meanwhile: all that is in ``blobs`` stays."""
    blobs = repo / "blobs"
    with suppress(OSError):
        blobs.rmdir()
    if not blobs.exists():
        for folder in ("refs", ".no_exist", "snapshots"):
            shutil.rmtree(repo / folder, ignore_errors=True)
        with suppress(OSError):
            repo.rmdir()


def remove_kept_address(model: KeptModel) -> int:
    """Remove a model from an address, and what is beside it; returns how many bytes that frees.

    Raises:
        ModelError: somebody is fetching a newer one.
        OSError: it cannot be removed.
    """
    folder = model.path.parent
    with nobody_else(model.name, folder / "lock"):
        _remove_but_lock(folder)
    if sys.platform == "win32":
        shutil.rmtree(folder)
    return model.size


def _remove_but_lock(folder: Path) -> None:
    """Remove a folder whose lock is held; on Windows, where nobody can remove an open file, all but the lock."""
    if sys.platform == "win32":
        for path in folder.iterdir():
            if path.name != "lock":
                path.unlink()
    else:
        shutil.rmtree(folder)


def _has_no_model(folder: Path) -> bool:
    left = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return not any(_is_of_a_model(path) for path in left)


def _noted(name: str, path: Path, place: Place, why: str) -> list[KeptModel]:
    try:
        status = path.lstat()
    except OSError:  # it has arrived meanwhile
        return []
    if not stat.S_ISREG(status.st_mode):  # no download, whatever it is
        return []
    return [KeptModel(name, path, place, status.st_size, problem=why, files=(path,))]


def _is_of_a_model(path: Path) -> bool:
    return path.name != "lock" and path.suffix != ".json" and path.parent.name != "refs"


@contextmanager
def nobody_else(name: str, lock: Path) -> Generator[None]:
    """Hold what is held while a file is fetched.

    Raises:
        ModelError: somebody fetches it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        if not is_mine(handle):
            raise ModelError(name, "it is being fetched: stop that first")
        yield
    finally:
        os.close(handle)
