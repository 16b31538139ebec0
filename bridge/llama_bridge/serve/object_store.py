"""A store in a bucket of objects, or whatever else fsspec knows by a URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import fsspec.core as _core  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from ..errors import SessionWriteError
from .shared_store import SharedStore, Stored, shown_url

__all__ = ["ObjectStore"]

_open = cast("Callable[..., tuple[Any, str]]", _core.url_to_fs)  # pyright: ignore[reportUnknownMemberType]

_TIMES = ("mtime", "LastModified", "updated", "last_modified", "created")
"""What the times of objects are called, by who keeps them."""


class ObjectStore(SharedStore):
    """A folder in a store of objects. Reading an object is no use of it there: what goes first is what was written first.

    Raises:
        SessionWriteError: it cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            with _as_os_errors():
                # Others write: what a listing said before does not count.
                self._fs, self._folder = _open(url, use_listings_cache=False)
                self._fs.makedirs(self._folder, exist_ok=True)
        except (OSError, ImportError) as error:
            why = getattr(error, "strerror", None) or error
            raise SessionWriteError(shown_url(url), f"cannot be used as a store: {why}") from error

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def read(self, name: str) -> bytes | None:
        """See :meth:`SharedStore.read`."""
        try:
            with _as_os_errors():
                data: bytes = self._fs.cat_file(self._path(name))
                return data
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """See :meth:`SharedStore.has`."""
        with _as_os_errors():
            return bool(self._fs.exists(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """See :meth:`SharedStore.write`."""
        with _as_os_errors():
            self._fs.pipe_file(self._path(name), data)

    def write_first(self, name: str, data: bytes) -> bytes:
        """See :meth:`SharedStore.write_first`. S3 and its like can do that; elsewhere two that begin at once may not agree."""
        try:
            with _as_os_errors():
                self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            pass
        found = self.read(name)
        if found is None:
            raise OSError(f"{name} was written, and is not there")
        return found

    def fetch(self, name: str, file: Path) -> bool:
        """See :meth:`SharedStore.fetch`."""
        try:
            with _as_os_errors():
                self._fs.get_file(self._path(name), str(file))
        except FileNotFoundError:
            return False
        return True

    def place(self, name: str, scratch: Path) -> Path:
        """See :meth:`SharedStore.place`."""
        return scratch / name

    def placed(self, name: str, file: Path) -> None:
        """See :meth:`SharedStore.placed`."""
        try:
            with _as_os_errors():
                self._fs.put_file(str(file), self._path(name))
        finally:
            file.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """See :meth:`SharedStore.remove`."""
        try:
            with _as_os_errors():
                self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            pass

    def contents(self) -> Iterator[Stored]:
        """See :meth:`SharedStore.contents`."""
        with _as_os_errors():
            found: dict[str, dict[str, Any]] = self._fs.find(self._folder, detail=True)
        for path, facts in found.items():
            name = path.rpartition("/")[2]
            if name.startswith("resp_"):
                yield Stored(_written(facts), name, int(facts.get("size") or 0))


def _written(facts: dict[str, Any]) -> float:
    when = next((facts[name] for name in _TIMES if facts.get(name)), None)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else time.time()


@contextmanager
def _as_os_errors() -> Generator[None, None, None]:
    """Each store has errors of its own. Their texts may name keys."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(None, f"the store failed ({type(error).__name__})") from error
