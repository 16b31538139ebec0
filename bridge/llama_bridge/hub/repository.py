"""Which file of a repository is meant, as llama.cpp chooses it, and what there is if none is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..errors import DigestMismatch, ModelNotFound
from ..models.name import HubName
from ..models.part_name import read_part_name

__all__ = [
    "BEST",
    "RepoFile",
    "Repository",
    "best_is_there",
    "choose",
    "is_model",
    "named",
    "quantisation_in",
]

BEST = ("Q4_K_M", "Q8_0")
"""The quantisations that are taken if the name has none, best first; then the first file there is."""

_COMPANIONS = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""In the names of files that go with a model, and are none themselves."""

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


Files = tuple[RepoFile, ...]
"""A model: one file, or the parts of a split one that are there, in order."""


def choose(repository: Repository, name: HubName) -> Files:
    """The file that a name means, or all parts of a split model.

    Raises:
        ModelNotFound: none; lists what there is. Or a part is missing.
        DigestMismatch: it is not the file that the name says.
    """
    files = _checked(named(repository, name), name)
    part = read_part_name(files[0].path)
    if part is None:
        return files
    there = {_number(file) for file in files}
    gone = [str(part.at(number)) for number in range(1, part.count + 1) if number not in there]
    if gone:
        more = f" and {len(gone) - 1} more" * (len(gone) > 1)
        raise ModelNotFound(
            str(name),
            f"a split model of {part.count} files, of which {gone[0]}{more} is missing in {name.repo}",
            [file.path for file in files],
        )
    return files


def _checked(files: Files, name: HubName) -> Files:
    """The files, of which the one that is named has the digest that the name says."""
    if name.sha256 is None:
        return files
    file = next((each for each in files if each.path == name.file), files[0])
    if file.sha256 not in (None, name.sha256):
        why = f"{file.path} in {name.repo} is another file: check the digest, or give the commit that has it"
        raise DigestMismatch(str(name), name.sha256, str(file.sha256), why)
    return tuple(replace(each, sha256=name.sha256) if each is file else each for each in files)


def named(repository: Repository, name: HubName) -> Files:
    """The same, whether all parts are there or not.

    Raises:
        ModelNotFound: none; lists what there is.
    """
    everything = _grouped(repository.files)
    models = [files for files in everything if is_model(files[0].path)]
    found: Files | None = None
    if name.file is not None:
        found = next((files for files in everything if _is_called(files, name.file)), None)
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
    return found


def _grouped(files: Iterable[RepoFile]) -> list[Files]:
    """The parts of each split model together, any other file by itself."""
    groups: dict[object, dict[int, RepoFile]] = {}
    for file in files:
        part = read_part_name(file.path)
        key = file.path if part is None else (part.base.lower(), part.count)
        groups.setdefault(key, {}).setdefault(_number(file), file)
    return [tuple(group[number] for number in sorted(group)) for group in groups.values()]


def _number(file: RepoFile) -> int:
    part = read_part_name(file.path)
    return 1 if part is None else part.number


def _is_called(files: Files, path: str) -> bool:
    """Whether a path names one of a model's files, or a split model without the number of a part."""
    if any(file.path == path for file in files):
        return True
    mine, asked = read_part_name(files[0].path), read_part_name(path)
    if mine is None:
        return False
    return mine.is_of(asked) if asked else mine.whole == path


def best_is_there(repository: Repository) -> bool:
    """Whether nothing on the hub could be a better choice for a name without a quantisation."""
    models = [files for files in _grouped(repository.files) if is_model(files[0].path)]
    return _with(models, BEST[0]) is not None


def quantisation_in(path: str) -> str:
    """The quantisation that a file's name says, in capital letters; empty if it says none."""
    part = read_part_name(path)
    whole = path if part is None else part.whole
    found = _QUANTISATION.findall(whole.rpartition("/")[2])
    return found[-1].upper() if found else ""


def is_model(path: str) -> bool:
    """Whether a path names a model by itself, and nothing that goes with one."""
    name = path.rpartition("/")[2].lower()
    return name.endswith(".gguf") and not any(word in name for word in _COMPANIONS)


def _with(models: Sequence[Files], quantisation: str) -> Files | None:
    """The first model with this quantisation in its name. "F16" is not found in "BF16", unless there is no other."""
    for before in (r"(?:^|[-._/])", ""):
        pattern = re.compile(f"{before}{re.escape(quantisation)}[.-]", re.IGNORECASE)
        for files in models:
            if pattern.search(files[0].path):
                return files
    return None


def _not_found(
    name: HubName, missing: str, models: Sequence[Files], files: Sequence[RepoFile]
) -> ModelNotFound:
    if not models:
        others = ", ".join(file.path for file in files[:5]) or "nothing"
        return ModelNotFound(
            str(name),
            f"{missing} (it has {others}{', ...' * (len(files) > 5)}): "
            "look for a repository with GGUF in its name",
        )
    there = [str(HubName(name.repo, found[0].path, None, name.revision)) for found in models]
    lines = [_line(found) for found in models[:_SHOWN]]
    more = [f"  and {len(models) - _SHOWN} more"] if len(models) > _SHOWN else []
    return ModelNotFound(str(name), "\n".join([f"{missing}. It has:", *lines, *more]), there)


def _line(files: Files) -> str:
    first, size = files[0], sum(file.size for file in files)
    parts = f" ({len(files)} files)" * (len(files) > 1)
    return f"  {quantisation_in(first.path) or '-':<10} {_size(size):>8}  {first.path}{parts}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
