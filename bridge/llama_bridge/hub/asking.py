"""Asks the hub what it has, if it may be asked and huggingface_hub is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DownloadError
from ..models.name import HubName
from . import patience

if TYPE_CHECKING:
    from .answers import Get
    from .repository import Repository

__all__ = ["ask_hub", "is_offline"]

_EXTRA = 'huggingface_hub is not installed: pip install "llama-bridge[hub]"'


def ask_hub(name: HubName) -> tuple[Repository, Callable[[HubName, str], Get]]:
    """The files of a repository, and what asks for one of them, by its name and its path.

    Raises:
        ModelNotFound: no such repository or revision.
        DownloadError: no answer, offline mode, or huggingface_hub is missing; AccessDenied and RateLimited among these.
    """
    if is_offline():
        raise DownloadError(
            str(name), "it is not in the cache, and offline mode (HF_HUB_OFFLINE) is on"
        )
    try:
        from . import client  # 300 ms, and an extra
    except ModuleNotFoundError as error:
        raise DownloadError(str(name), _EXTRA) from error
    except Exception as error:  # another version, or a variable that it cannot read
        why = f"huggingface_hub cannot be used: {type(error).__name__}: {error}"
        raise DownloadError(str(name), why) from error
    repository = patience.in_time(
        patience.SECONDS, str(name), "the hub's answer", lambda: client.ask_repository(name)
    )
    return repository, lambda its, path: client.getter(its, repository.commit, path)


def is_offline() -> bool:
    """Whether the environment says that no server may be asked."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    text = next(filter(None, (os.environ.get(name) for name in names)), "")
    return text.upper() in ("1", "ON", "YES", "TRUE")
