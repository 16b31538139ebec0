"""Opens a store by its name."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidInput
from .shared_store import SharedFolder, SharedStore, shown_url

__all__ = ["open_store"]


def open_store(name: str) -> SharedStore:
    """The store of a name: a folder, or a URL that fsspec knows.

    Raises:
        InvalidInput: it is a URL, and fsspec is not installed.
        SessionWriteError: it cannot be used.
    """
    if "://" not in name:
        return SharedFolder(Path(name))
    try:
        from .object_store import ObjectStore  # fsspec: an extra
    except ImportError as error:
        raise InvalidInput(f"store={shown_url(name)!r}: a URL needs: pip install fsspec") from error
    return ObjectStore(name)
