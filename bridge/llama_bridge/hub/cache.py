"""The hub's cache on this disk, which huggingface_hub and llama.cpp share.

.. code-block:: text

    models--org--name/
        refs/main                    the commit that main was, when it was last asked for
        blobs/<sha256>               the files, by their content
        blobs/<sha256>.incomplete    what has arrived of one
        snapshots/<commit>/<path>    links to blobs; files themselves where the system has no links
    .locks/models--org--name/<sha256>.lock
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from ..models.name import HubName
from .folders import matching
from .repository import RepoFile, Repository

__all__ = ["RepoCache", "blob_digest", "blob_of", "hub_cache", "hub_caches"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAIN = "main"
_VARIABLES = (
    ("LLAMA_CACHE", ""),
    ("HF_HUB_CACHE", ""),
    ("HUGGINGFACE_HUB_CACHE", ""),
    ("HF_HOME", "hub"),
    ("XDG_CACHE_HOME", "huggingface/hub"),
)
"""In llama.cpp's order. huggingface_hub has the same without the first."""


def hub_cache() -> Path:
    """The folder that llama.cpp would take: that of the first of its variables, else ``~/.cache/huggingface/hub``."""
    return hub_caches()[0]


def hub_caches() -> list[Path]:
    """That folder, and the one that huggingface_hub takes, if it is another."""
    found: list[Path] = []
    for variables in (_VARIABLES, _VARIABLES[1:]):
        folder = _first(variables)
        if folder not in found:
            found.append(folder)
    return found


def _first(variables: tuple[tuple[str, str], ...]) -> Path:
    for variable, below in variables:
        if text := os.environ.get(variable, ""):
            return Path(os.path.abspath(os.path.expanduser(os.path.expandvars(text))), below)
    return Path(os.path.expanduser("~/.cache/huggingface/hub"))


def blob_of(path: Path) -> Path | None:
    """The blob that a name in a snapshot is a link to; None if it is the file itself.

    One link is followed, no more: huggingface_hub may keep a blob elsewhere, under another digest.
    """
    try:
        blob = Path(
            os.path.normpath(os.path.join(os.path.realpath(path.parent), os.readlink(path)))
        )
    except OSError:
        return None
    return blob if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


def blob_digest(path: Path) -> str | None:
    """The sha256 that a cached file must have, by the name of its blob; None if nothing says it."""
    blob = blob_of(path)
    return None if blob is None else blob.name


class RepoCache:
    """One repository in a cache."""

    def __init__(self, cache: Path, repo: str) -> None:
        self.repo = repo
        folder = "models--" + repo.replace("/", "--")
        self.folder = cache / folder
        self._locks = cache / ".locks" / folder

    def blob(self, sha256: str) -> Path:
        """Where the file of this content is, or will be."""
        return self.folder / "blobs" / sha256

    def part(self, sha256: str) -> Path:
        """Where it is while it arrives."""
        return self.folder / "blobs" / f"{sha256}.incomplete"

    def lock(self, sha256: str) -> Path:
        """What huggingface_hub locks while it fetches it."""
        return self._locks / f"{sha256}.lock"

    def pointer(self, commit: str, path: str) -> Path:
        """Where it is under its name."""
        return self.folder.joinpath("snapshots", commit, *path.split("/"))

    def at(self, revision: str | None) -> Repository | None:
        """What is on the disk of a revision; None if it was never asked for."""
        commit = self._commit(revision or _MAIN)
        if commit is None:
            return None
        top = self.folder / "snapshots" / commit
        files: list[RepoFile] = []
        for path in matching(top, "**/*"):
            with suppress(OSError):
                if path.is_file():  # a link to a blob that is gone is none
                    name, size = path.relative_to(top).as_posix(), path.stat().st_size
                    files.append(RepoFile(name, size, blob_digest(path)))
        return Repository(self.repo, commit, tuple(files)) if files else None

    def _commit(self, revision: str) -> str | None:
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            commit = self.folder.joinpath("refs", *revision.split("/")).read_text().strip()
        except (OSError, ValueError):
            return None
        return commit if _COMMIT.fullmatch(commit) else None

    def keep(self, name: HubName, commit: str, file: RepoFile) -> Path:
        """Give the blob of a file its name, and note what the revision is; returns the path to use.

        Raises:
            OSError: it cannot be written.
        """
        if file.sha256 is None:
            raise ValueError("a blob is called by its digest")
        pointer, blob = self.pointer(commit, file.path), self.blob(file.sha256)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if not pointer.exists():
            with suppress(FileNotFoundError):
                pointer.unlink()  # a link to a blob that is gone
            try:
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
            except FileExistsError:
                pass  # another process was quicker
            except (OSError, NotImplementedError):  # Windows has links for developers only
                os.replace(blob, pointer)
        revision = name.revision or _MAIN
        if revision != commit:
            self._note(revision, commit)
        return pointer

    def _note(self, revision: str, commit: str) -> None:
        ref = self.folder.joinpath("refs", *revision.split("/"))
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{os.urandom(4).hex()}.tmp")
        new.write_text(commit)
        os.replace(new, ref)
