"""Models from plain addresses, in a cache of our own. A file gets its name there only when it is whole.

.. code-block:: text

    downloads/<key of the address>/
        model.gguf               the file, under its own name
        model.gguf.incomplete    what has arrived of it
        about.json               its address, digest, and what the server said to recognise it by
        lock                     held while it is fetched

Of a split model all parts are in the folder of the first. What is known of each is in ``<its name>.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

from ..errors import DownloadError, InvalidModel
from ..models.file_kinds import BEGINNING, GGUF, file_kind
from ..models.gguf import read_gguf
from ..models.name import UrlName
from ..models.part_name import read_part_name
from ..models.split import check_called
from ..progress import OnProgress
from ..user_cache import user_cache
from .answers import Answer, Get, validator_in
from .digests import check_digest, file_digest, known_digest, remember
from .fetching import only_one, writing
from .folders import matching, short_name
from .of_all import OfAll
from .transfer import Wanted, receive

__all__ = [
    "address_folder",
    "fetch_address",
    "first_part",
    "kept_address",
    "kept_addresses",
    "parts_of",
    "unfinished_addresses",
]

_ABOUT = "about.json"


def fetch_address(
    name: UrlName,
    getter: Callable[[UrlName], Get],
    on_progress: OnProgress | None,
    *,
    refresh: bool,
    offline: bool,
) -> Path:
    """The path of the file at an address, or of the first part of a split model; what is not there is fetched.

    Args:
        name: the address, perhaps with its sha256, which is that of one part.
        getter: gives what asks for an address.
        on_progress: told of ``"download"`` and ``"verify"``.
        refresh: whether the server is asked for a newer one if it is there.
        offline: whether it may not be.

    Raises:
        DownloadError: and all that :func:`receive` raises.
        InvalidModel: what arrived is no usable GGUF file. It is not kept.
    """
    folder = address_folder(first_part(name))
    if folder is None:
        raise DownloadError(str(name), "this user has no cache folder: set XDG_CACHE_HOME to one")
    parts = parts_of(name)
    if len(parts) > 1 and not name.is_safe:
        raise DownloadError(
            str(name),
            f"a sha256 says what one of {len(parts)} parts is, and the others could be changed on their way: give https://",
        )
    told = OfAll(on_progress)
    paths: list[Path] = []
    for part in parts:
        place = _Place.of(part, folder, is_part=len(parts) > 1)
        tell = on_progress if len(parts) == 1 else told.next()
        paths.append(_fetch(place, getter(part), tell, refresh=refresh, offline=offline))
    return paths[0]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file is.

    Attributes:
        name: its address.
        path: itself.
        about: what is known of it.
    """

    name: UrlName
    path: Path
    about: Path

    @classmethod
    def of(cls, name: UrlName, folder: Path, *, is_part: bool) -> _Place:
        path = folder / _file_name(name)
        return cls(name, path, path.with_name(f"{path.name}.json") if is_part else folder / _ABOUT)


def _fetch(
    place: _Place, get: Get, on_progress: OnProgress | None, *, refresh: bool, offline: bool
) -> Path:
    name, path = place.name, place.path
    part = path.with_name(f"{path.name}.incomplete")
    with only_one(str(name), path.with_name("lock"), part, None, on_progress):
        about = _read(place.about)
        if os.path.exists(path) and not (refresh and _has_changed(name, path, about, get)):
            promised = name.sha256 or about.get("sha256") or file_digest(path, on_progress)
            way_out = f"it has changed on this disk, and is not used: llama-bridge pull {name}"
            check_digest(path, promised, str(name), way_out + " fetches it again", on_progress)
            return path
        if offline:
            raise DownloadError(str(name), "offline mode (HF_HUB_OFFLINE) is on")
        validator = str(about.get("part", ""))
        if not validator and name.sha256 is None:
            with writing(str(name)):
                part.unlink(missing_ok=True)  # nobody could tell whether the rest belongs to it
        wanted = Wanted(str(name), None, name.sha256, validator)
        sha256 = receive(part, _noting(place, get), wanted, on_progress)
        _check_model(name, part, path.name)
        with writing(str(name)):
            os.replace(part, path)
            about = _read(place.about)
            _write(place.about, about | {"sha256": sha256, "validator": about.get("part", "")})
        remember(path, sha256)
        return path


def first_part(name: UrlName) -> UrlName:
    """The address of a split model's first part; any other as it is."""
    return parts_of(name)[0]


def parts_of(name: UrlName) -> list[UrlName]:
    """The addresses of all parts: they differ in the number in their path. Only the given one keeps its sha256."""
    parts = urlsplit(name.url)
    path = parts.path.rstrip("/")
    called = read_part_name(path)
    if called is None and (unquoted := read_part_name(unquote(path))) is not None:
        called = replace(unquoted, base=quote(unquoted.base))
    if called is None:
        return [name]
    found: list[UrlName] = []
    for number in range(1, called.count + 1):
        url = parts._replace(path=str(called.at(number))).geturl()
        found.append(name if number == called.number else UrlName(url))
    return found


def kept_addresses() -> list[tuple[str, Path]]:
    """The files that are there: the name that loads each of them, and its path."""
    base = user_cache()
    if base is None:
        return []
    found: list[tuple[str, Path]] = []
    for folder in matching(base, "downloads/*/"):
        for path in matching(folder, "*"):
            if path.name != "lock" and path.suffix not in (".incomplete", ".tmp", ".json"):
                found.append((_url_of(path) or str(path), path))
    return found


def unfinished_addresses() -> list[tuple[str, Path]]:
    """What has arrived of files that are not there yet: the name that goes on with each, and its path."""
    base = user_cache()
    paths = [] if base is None else matching(base, "downloads/*/*.incomplete")
    return [(_url_of(path.with_suffix("")) or str(path), path) for path in paths]


def _url_of(path: Path) -> str:
    """The address that a file is from; empty if nothing says it."""
    about = _read(path.with_name(f"{path.name}.json")) or _read(path.parent / _ABOUT)
    url = about.get("url", "")
    return url if isinstance(url, str) else ""


def kept_address(name: UrlName) -> Path | None:
    """The file of an address on this disk, the first of several, or None. Nothing is checked."""
    parts = parts_of(name)
    folder = address_folder(parts[0])
    if folder is None or not all(os.path.exists(folder / _file_name(part)) for part in parts):
        return None
    return folder / _file_name(parts[0])


def address_folder(name: UrlName) -> Path | None:
    """Where the file of an address is kept, and beside it the other parts of a split model; None without a cache."""
    base = user_cache()
    key = hashlib.sha256(name.url.encode()).hexdigest()[:32]
    return None if base is None else base / "downloads" / key


def _file_name(name: UrlName) -> str:
    text = short_name(re.sub(r"[^\w.-]", "_", name.file_name))
    return text if text.lower().endswith(".gguf") else f"{text or 'model'}.gguf"


def _has_changed(name: UrlName, path: Path, about: Mapping[str, Any], get: Get) -> bool:
    """Whether the server has another file than this one."""
    if name.sha256 is not None:
        return file_digest(path) != name.sha256
    validator = str(about.get("validator", ""))
    if not validator or known_digest(path) != about.get("sha256"):
        return True
    header = "If-None-Match" if validator.startswith('"') else "If-Modified-Since"
    with get({header: validator}) as answer:
        return answer.status != 304


def _noting(place: _Place, get: Get) -> Get:
    """Keep what the server says to recognise the file by, once it begins to send it."""
    name = place.name

    @contextmanager
    def noting(headers: Mapping[str, str]) -> Generator[Answer]:
        with get(headers) as answer:
            if answer.status == 200:
                about = _read(place.about) | {"part": validator_in(answer.headers)}
                if not urlsplit(name.url).query:  # which may be a secret
                    about["url"] = str(name)
                with writing(str(name)):
                    _write(place.about, about)
                answer = replace(answer, pieces=_only_a_model(name, answer.pieces))
            yield answer

    return noting


def _only_a_model(name: UrlName, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, unless they begin like something else: nobody wants gigabytes of that.

    Raises:
        InvalidModel: says what it is.
    """
    beginning = b""
    for piece in pieces:
        beginning += piece
        if len(beginning) >= BEGINNING:
            break
    kind = file_kind(beginning)
    if beginning and (kind is None or kind.name != GGUF):
        what = f"{kind.what}: {kind.way_out}" if kind else "no GGUF file"
        raise InvalidModel(str(name), f"the server sends {what}", kind.name if kind else "")
    yield beginning
    yield from pieces


def _check_model(name: UrlName, part: Path, called: str) -> None:
    """Check what has arrived, by itself: other parts of it may still be missing."""
    try:
        with part.open("rb") as file:
            check_called(str(name), called, read_gguf(file, str(name)))
    except OSError as error:
        raise DownloadError(str(name), f"cannot be read: {error.strerror or error}") from error
    except InvalidModel as error:
        with suppress(OSError):
            part.unlink()
        raise InvalidModel(
            str(name), f"what the server sent: {error.reason}", error.found
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", about) if isinstance(about, dict) else {}


def _write(path: Path, about: Mapping[str, Any]) -> None:
    new = path.with_name(f"{path.name}.tmp")
    new.write_text(json.dumps(about), encoding="utf-8")
    os.replace(new, path)
