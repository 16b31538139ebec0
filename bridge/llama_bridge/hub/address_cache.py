"""Models from plain addresses, in a cache of our own. A file gets its name there only when it is whole.

.. code-block:: text

    downloads/<key of the address>/
        model.gguf               the file, under its own name
        model.gguf.incomplete    what has arrived of it
        about.json               its address, digest, and what the server said to recognise it by
        lock                     held while it is fetched
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from ..errors import DownloadError, InvalidModel
from ..models.file_kinds import BEGINNING, GGUF, file_kind
from ..models.name import UrlName
from ..models.source import open_model
from ..progress import OnProgress
from ..user_cache import user_cache
from .answers import Answer, Get
from .digests import check_digest, file_digest, known_digest, remember
from .fetching import only_one, writing
from .repository import parts_in
from .transfer import Wanted, receive

__all__ = ["address_folder", "fetch_address", "kept_address", "kept_addresses"]

_ABOUT = "about.json"


def fetch_address(
    name: UrlName, get: Get, on_progress: OnProgress | None, *, refresh: bool, offline: bool
) -> Path:
    """The path of the file at an address; it is fetched if it is not there.

    Args:
        name: the address, perhaps with its sha256.
        get: asks for it.
        on_progress: told of ``"download"`` and ``"verify"``.
        refresh: whether the server is asked for a newer one if it is there.
        offline: whether it may not be.

    Raises:
        DownloadError: and all that :func:`receive` raises.
        InvalidModel: what arrived is no usable GGUF file. It is not kept.
    """
    if (parts := parts_in(name.file_name)) > 1:
        why = f"it is one of {parts} files of a split model, which cannot be loaded yet"
        raise InvalidModel(str(name), why, "split")
    folder = address_folder(name)
    if folder is None:
        raise DownloadError(str(name), "this user has no cache folder: set XDG_CACHE_HOME to one")
    path = folder / _file_name(name)
    part = folder / f"{path.name}.incomplete"
    with only_one(str(name), folder / "lock", part, None, on_progress):
        about = _read(folder)
        if path.exists() and not (refresh and _has_changed(name, path, about, get)):
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
        sha256 = receive(part, _noting(name, folder, get), wanted, on_progress)
        _check_model(name, part)
        with writing(str(name)):
            os.replace(part, path)
            about = _read(folder)
            _write(folder, about | {"sha256": sha256, "validator": about.get("part", "")})
        remember(path, sha256)
        return path


def kept_addresses() -> list[tuple[str, Path]]:
    """The files that are there: the name that loads each of them, and its path."""
    base = user_cache()
    if base is None:
        return []
    found: list[tuple[str, Path]] = []
    for folder in sorted(base.glob("downloads/*/")):
        url = str(_read(folder).get("url", ""))
        for path in sorted(folder.iterdir()):
            if path.name not in (_ABOUT, "lock") and path.suffix not in (".incomplete", ".tmp"):
                found.append((url or str(path), path))
    return found


def kept_address(name: UrlName) -> Path | None:
    """The file of an address on this disk, or None. Nothing is checked."""
    folder = address_folder(name)
    path = None if folder is None else folder / _file_name(name)
    return path if path is not None and path.exists() else None


def address_folder(name: UrlName) -> Path | None:
    """Where the file of an address is kept; None if this user has no cache."""
    base = user_cache()
    key = hashlib.sha256(name.url.encode()).hexdigest()[:32]
    return None if base is None else base / "downloads" / key


def _file_name(name: UrlName) -> str:
    text = re.sub(r"[^\w.-]", "_", name.file_name)[-120:].lstrip(".")
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


def _noting(name: UrlName, folder: Path, get: Get) -> Get:
    """Keep what the server says to recognise the file by, once it begins to send it."""

    @contextmanager
    def noting(headers: Mapping[str, str]) -> Generator[Answer]:
        with get(headers) as answer:
            if answer.status == 200:
                tag = answer.headers.get("etag", "")
                validator = tag if tag.startswith('"') else answer.headers.get("last-modified", "")
                about = _read(folder) | {"part": validator}
                if not urlsplit(name.url).query:  # which may be a secret
                    about["url"] = str(name)
                with writing(str(name)):
                    _write(folder, about)
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


def _check_model(name: UrlName, part: Path) -> None:
    try:
        open_model(part)
    except InvalidModel as error:
        with suppress(OSError):
            part.unlink()
        raise InvalidModel(
            str(name), f"what the server sent: {error.reason}", error.found
        ) from error


def _read(folder: Path) -> dict[str, Any]:
    try:
        about: Any = json.loads((folder / _ABOUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", about) if isinstance(about, dict) else {}


def _write(folder: Path, about: Mapping[str, Any]) -> None:
    new = folder / f"{_ABOUT}.tmp"
    new.write_text(json.dumps(about), encoding="utf-8")
    os.replace(new, folder / _ABOUT)
