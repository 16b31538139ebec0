"""A server's answer, and what its refusal means."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import AccessDenied, DownloadError, ModelNotFound, RateLimited

__all__ = [
    "CONTENT_RANGE",
    "Answer",
    "ConnectionBroke",
    "Get",
    "content_length",
    "refused",
    "retry_after",
    "validator_in",
]

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
"""Where a part begins, its last byte, and the size of the whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers.

    Attributes:
        status: such as 200.
        headers: by name in lower case.
        pieces: the body. Reading it may raise :class:`ConnectionBroke`.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


Get = Callable[[Mapping[str, str]], AbstractContextManager[Answer]]
"""Asks for a file with these headers besides. May raise :class:`ConnectionBroke`."""


class ConnectionBroke(Exception):
    """No answer, or no more of it. Another try may help."""


def refused(name: str, answer: Answer, received: int = 0) -> DownloadError | ModelNotFound:
    """The error for a status that is no success, of any server but the hub."""
    status = answer.status
    if status in (401, 403, 407):
        return AccessDenied(
            name, f"the server refused it (status {status}): it wants a login", status=status
        )
    if status in (404, 410):
        return ModelNotFound(name, f"the server has no such file (status {status})")
    if status == 429:
        return RateLimited(name, retry_after(answer.headers))
    return DownloadError(
        name, f"the server answered with status {status}", received=received, status=status
    )


def content_length(headers: Mapping[str, str]) -> int | None:
    """Bytes that an answer says that it has; None if it says nothing, or nonsense."""
    text = headers.get("content-length", "").strip()
    return int(text) if text.isdecimal() and len(text) < 19 else None


def validator_in(headers: Mapping[str, str]) -> str:
    """What a file can be recognised by later: a strong ETag, else a date; empty if the server says neither."""
    tag = headers.get("etag", "").strip()
    return tag if tag.startswith('"') else headers.get("last-modified", "").strip()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the next try, as the server says it: a number, a date, or a rate limit's end."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    if text:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            pass
    found = re.search(r";\s*t\s*=\s*(\d{1,9})", headers.get("ratelimit", ""))
    return float(found[1]) if found else None
