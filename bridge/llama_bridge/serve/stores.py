"""Opens a store by its name."""

from __future__ import annotations

from pathlib import Path

from .shared_store import SharedFolder, SharedStore

__all__ = ["open_store"]


def open_store(name: str) -> SharedStore:
    """The store of a name: a folder.

    Raises:
        SessionWriteError: it cannot be used.
    """
    return SharedFolder(Path(name))
