"""What can go wrong with models in a page.

.. code-block:: text

    ModelError
    └── StoreError
        ├── StoreUnavailable   this browser keeps no files for the page
        ├── StoreFull          the model does not fit in the space that the browser allows
        ├── ModelBusy          another tab has the file open
        └── DownloadError      the server refused, or the connection broke
"""

from __future__ import annotations

from llama_bridge import errors
from llama_bridge.errors import ModelError

__all__ = ["DownloadError", "ModelBusy", "StoreError", "StoreFull", "StoreUnavailable"]

_MB = 1_000_000


class StoreError(ModelError):
    """A model cannot be kept, or a kept one cannot be used."""


class StoreUnavailable(StoreError):
    """This browser keeps no files for this page: for example a private window, or an old browser."""


class StoreFull(StoreError):
    """The model does not fit in the space that the browser allows. Kept models are untouched.

    Attributes:
        needed: bytes that still have to be written.
        free: bytes that can be written.
    """

    def __init__(self, name: str, needed: int, free: int) -> None:
        super().__init__(
            name,
            f"keeping it takes {needed / _MB:,.1f} MB, but the browser has {free / _MB:,.1f} MB left for this page: "
            "delete a kept model, or use this one without keeping it",
        )
        self.needed = needed
        self.free = free


class ModelBusy(StoreError):
    """Another tab has the file open, and this browser allows only one at a time."""


class DownloadError(StoreError, errors.DownloadError):
    """The server refused, or the connection broke. It is a :class:`llama_bridge.DownloadError` too."""

    def __init__(self, name: str, reason: str, received: int = 0, total: int | None = None) -> None:
        errors.DownloadError.__init__(self, name, reason, received=received, total=total)
