"""Checks of what callers give a store. The browser would say only that some name is not allowed."""

from __future__ import annotations

import re

from llama_bridge.checks import shown
from llama_bridge.errors import InvalidInput

__all__ = ["check_digest", "check_path"]


def check_path(path: object) -> str:
    """The folder of a store: names with one ``/`` between them.

    Raises:
        InvalidInput.
    """
    if isinstance(path, str) and not any(
        name in ("", ".", "..") or re.search(r"[\0-\x1f\\]", name) for name in path.split("/")
    ):
        return path
    raise InvalidInput(
        f"path={shown(path)}: give the store's folder, as names with one / between them, such as 'models/small'"
    )


def check_digest(sha256: object) -> str:
    """The digest that a kept model has.

    Raises:
        InvalidInput.
    """
    if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256):
        return sha256
    raise InvalidInput(
        f"sha256={shown(sha256)}: give the digest of a kept model, 64 hexadecimal digits, as models() has it"
    )
