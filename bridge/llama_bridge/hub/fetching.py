"""A file of a repository, into the hub's cache: once, checked, by one process at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DownloadError, NotEnoughSpace
from ..files.locking import try_lock
from ..models.name import HubName
from ..progress import OnProgress, Progress
from .answers import Get
from .cache import RepoCache
from .digests import check_digest, file_digest, remember
from .repository import RepoFile
from .transfer import Wanted, free_space, receive

__all__ = ["check_room", "fetch", "is_mine", "only_one", "writing"]

_LOOK = 0.1


def fetch(
    name: HubName,
    cache: RepoCache,
    commit: str,
    file: RepoFile,
    get: Get,
    on_progress: OnProgress | None,
    *,
    replace: bool = False,
) -> Path:
    """The path of a file that has the digest which the hub says; it is fetched if it is not there.

    Args:
        name: as it was asked for.
        cache: its repository.
        commit: of the repository.
        file: which one, with its sha256.
        get: asks for it.
        on_progress: told of ``"download"`` and ``"verify"``.
        replace: whether a damaged file in the cache is fetched again, instead of refused.

    Raises:
        DownloadError: and all that :func:`receive` raises.
    """
    sha256 = file.sha256
    if sha256 is None:
        raise DownloadError(
            str(name),
            f"the hub gives no sha256 for {file.path}, so it cannot be checked: give its address, "
            "https://…#sha256=<hex>",
        )
    part, blob = cache.part(sha256), cache.blob(sha256)
    with only_one(str(name), cache.lock(sha256), part, file.size, on_progress):
        there = [path for path in (blob, cache.pointer(commit, file.path)) if os.path.exists(path)]
        if there and replace and file_digest(there[0], on_progress) != sha256:
            with writing(str(name)):
                for path in [there[0].resolve(), *there]:
                    path.unlink(missing_ok=True)
            there = []
        if there:
            way_out = f"the file in the cache is damaged, and is not used: llama-bridge pull {name}"
            check_digest(there[0], sha256, str(name), way_out + " fetches it again", on_progress)
        else:
            receive(part, get, Wanted(str(name), file.size, sha256), on_progress)
        with writing(str(name)):
            if not there:
                os.replace(part, blob)
            path = cache.keep(name, commit, file)
    remember(path, sha256)
    return path


def check_room(name: HubName, cache: RepoCache, files: Sequence[RepoFile]) -> None:
    """Refuse a model whose parts do not all fit on the disk, before the first is fetched.

    Raises:
        NotEnoughSpace.
    """
    if len(files) == 1:
        return  # its server's answer is checked
    needed = 0
    for file in files:
        sha256 = file.sha256 or ""
        if not os.path.isfile(cache.blob(sha256)):
            needed += max(0, file.size - _size(cache.part(sha256)))
    folder = next(path for path in (cache.folder, *cache.folder.parents) if os.path.exists(path))
    if needed > (free := free_space(folder)):
        raise NotEnoughSpace(str(name), folder, needed, free)


@contextmanager
def writing(name: str) -> Generator[None]:
    """Turn what the disk refuses into a DownloadError."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        why = f"the cache cannot be written to: {error.strerror or error}{where}"
        raise DownloadError(name, why) from error


@contextmanager
def only_one(
    name: str, lock: Path, part: Path, total: int | None, on_progress: OnProgress | None
) -> Generator[None]:
    """Wait while another process, or another thread, fetches the same file, and tell how far it is."""
    while True:
        with writing(name):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o664)
        try:
            while not is_mine(handle):
                if on_progress is not None:  # also so that whoever is told can end it
                    done = _size(part)
                    known = done + 1 if total is None else total
                    on_progress(Progress("download", min(done, known), known, "bytes"))
                time.sleep(_LOOK)
            if not _is_there(handle, lock):
                continue  # somebody has cleared the cache meanwhile: others lock another file
            yield
            return
        finally:
            os.close(handle)  # which unlocks it


def is_mine(handle: int) -> bool:
    """Try to lock an open file; False if somebody else has."""
    try:
        return try_lock(handle)
    except OSError:  # a file system without locks: two may fetch it, and the digest still counts
        return True


def _is_there(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except OSError:
        return False


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0
