"""Which file of a repository is meant, as llama.cpp chooses it, and what there is if none is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InvalidModel, ModelNotFound
from ..models.name import HubName

__all__ = [
    "BEST",
    "RepoFile",
    "Repository",
    "best_is_there",
    "choose",
    "is_model",
    "parts_in",
    "quantisation_in",
]

BEST = ("Q4_K_M", "Q8_0")
"""The quantisations that are taken if the name has none, best first; then the first file there is."""

_COMPANIONS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""In the names of files that go with a model, and are none themselves."""

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_QUANTISATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d|TQ\d|[BF]?F\d\d|MXFP\d|NVFP\d)\w*)(?=[-.])", re.I
)
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file in a repository.

    Attributes:
        path: where it is in the repository.
        size: bytes.
        sha256: of its content, in hexadecimal; None if the hub does not say.
    """

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit.

    Attributes:
        repo: ``org/name``.
        commit: 40 hexadecimal digits.
        files: all of its files, or those that are on the disk.
    """

    repo: str
    commit: str
    files: tuple[RepoFile, ...]


def choose(repository: Repository, name: HubName) -> RepoFile:
    """The file that a name means.

    Raises:
        ModelNotFound: none; lists what there is.
        InvalidModel: a model in several files, which cannot be loaded yet.
    """
    models = [file for file in repository.files if is_model(file.path)]
    found: RepoFile | None = None
    if name.file is not None:
        found = next((file for file in repository.files if file.path == name.file), None)
        missing = f"no file {name.file} in {name.repo}"
    elif name.quantisation is not None:
        found = _with(models, name.quantisation)
        missing = f"no file with quantisation {name.quantisation} in {name.repo}"
    else:
        tries = (_with(models, quantisation) for quantisation in BEST)
        found = next(filter(None, tries), next(iter(models), None))
        missing = f"no GGUF file in {name.repo}"
    if found is None:
        raise _not_found(name, missing, models, repository.files)
    if split := _SPLIT.search(found.path):
        whole = [file for file in models if not _SPLIT.search(file.path)]
        raise InvalidModel(
            str(name),
            f"{found.path} is one of {int(split[2])} files of a split model, which cannot be loaded yet. "
            + _there_is(name.repo, "In one file there is", whole),
            "split",
        )
    return found


def best_is_there(repository: Repository) -> bool:
    """Whether nothing on the hub could be a better choice for a name without a quantisation."""
    return _with([f for f in repository.files if is_model(f.path)], BEST[0]) is not None


def quantisation_in(path: str) -> str:
    """The quantisation that a file's name says, in capital letters; empty if it says none."""
    found = _QUANTISATION.findall(_SPLIT.sub(".gguf", path).rpartition("/")[2])
    return found[-1].upper() if found else ""


def is_model(path: str) -> bool:
    """Whether a path names a model by itself, and nothing that goes with one."""
    name = path.rpartition("/")[2].lower()
    return name.endswith(".gguf") and not any(word in name for word in _COMPANIONS)


def parts_in(path: str) -> int:
    """In how many files a model is, by the name of one of them."""
    split = _SPLIT.search(path)
    return int(split[2]) if split else 1


def _with(files: Iterable[RepoFile], quantisation: str) -> RepoFile | None:
    """The first file with this quantisation in its name. "F16" is not found in "BF16", unless there is no other."""
    files = list(files)
    for before in (r"(?:^|[-._/])", ""):
        pattern = re.compile(f"{before}{re.escape(quantisation)}[.-]", re.IGNORECASE)
        for file in files:
            split = _SPLIT.search(file.path)
            if pattern.search(file.path) and (split is None or int(split[1]) == 1):
                return file
    return None


def _not_found(
    name: HubName, missing: str, models: Sequence[RepoFile], files: Sequence[RepoFile]
) -> ModelNotFound:
    if not models:
        others = ", ".join(file.path for file in files[:5]) or "nothing"
        return ModelNotFound(
            str(name),
            f"{missing} (it has {others}{', ...' * (len(files) > 5)}): "
            "look for a repository with GGUF in its name",
        )
    there = [str(HubName(name.repo, file.path, None, name.revision)) for file in models]
    return ModelNotFound(str(name), f"{missing}. {_there_is(name.repo, 'It has', models)}", there)


def _there_is(repo: str, begin: str, files: Sequence[RepoFile]) -> str:
    if not files:
        return f"{begin} none: look for another repository"
    lines = [
        f"  {quantisation_in(file.path) or '-':<10} {_size(file.size):>8}  {file.path}"
        for file in files[:_SHOWN]
    ]
    more = [f"  and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else []
    return "\n".join([f"{begin}:", *lines, *more])


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
