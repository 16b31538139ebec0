"""Kept responses as bytes and back: one JSON object, and in a last line the SHA-256 of it, so that damage is noticed."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict

from .kept_responses import Kept

__all__ = ["from_bytes", "to_bytes"]

_log = logging.getLogger(__name__)


def to_bytes(kept: Kept) -> bytes:
    """A response as it is written."""
    data = json.dumps(asdict(kept), ensure_ascii=False).encode()
    return data + b"\n" + _digest(data)


def from_bytes(data: bytes, id_: str) -> Kept | None:
    """The response of an id, or None with a line in the log. One without a digest, as they once were, is taken as it is."""
    text, line, digest = data.partition(b"\n")  # this JSON has no line breaks in it
    if line and digest != _digest(text):
        _log.error("a kept response cannot be read: its digest does not fit, so it was altered")
        return None
    try:
        kept = Kept(**json.loads(text))
        texts = (kept.id, kept.owner, kept.model)
        lists = (kept.items, kept.messages)
        if kept.id != id_ or not all(isinstance(one, str) for one in texts):
            raise ValueError
        if not isinstance(kept.response, dict) or not all(isinstance(one, list) for one in lists):
            raise TypeError
    except (ValueError, TypeError, RecursionError) as error:
        _log.error("a kept response cannot be read: %s", type(error).__name__)
        return None
    return kept


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
