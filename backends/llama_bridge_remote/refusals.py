"""What a server refuses with, as this library's errors. The one place that reads servers' errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from llama_bridge.errors import (
    AccessDenied,
    BridgeError,
    Busy,
    ContextOverflow,
    EngineError,
    InvalidInput,
    ModelNotFound,
    RateLimited,
)

__all__ = ["Refusal", "as_error", "of_object", "read_refusal", "without"]

_LONGEST = 600
"""Characters of a server's message that are quoted."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said instead of an answer.

    Attributes:
        status: HTTP's; of an error inside a stream what the error says, or 500.
        message: in the server's words; empty if it has none.
        code: the server's word for programs, possibly empty.
        param: the field that it means, possibly empty.
        facts: the whole error.
        retry_after: seconds to wait before the next try, or None.
        is_page: whether it answered with a web page.
    """

    status: int
    message: str
    code: str = ""
    param: str = ""
    facts: Mapping[str, Any] | None = None
    retry_after: float | None = None
    is_page: bool = False


def read_refusal(
    status: int, body: bytes, headers: Mapping[str, str], secrets: Sequence[str]
) -> Refusal:
    """Read an answer that refuses. The secrets are taken out of the server's words."""
    text = body[: 1 << 16].decode("utf-8", "replace")
    page = "text/html" in headers.get("content-type", "") or text.lstrip()[:1] == "<"
    retry: float | None = None
    with suppress(KeyError, ValueError):
        retry = min(600.0, max(0.0, float(headers["retry-after"])))
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        message = "" if page else text
        return Refusal(status, _safe(message, secrets), retry_after=retry, is_page=page)
    return of_object(status, value, secrets, retry)


def of_object(
    status: int, value: object, secrets: Sequence[str], retry: float | None = None
) -> Refusal:
    """Read a refusal in OpenAI's shape, in Ollama's, or in FastAPI's."""
    found: object = value
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        found = given.get("error", given.get("detail", given))
    if not isinstance(found, dict):
        return Refusal(status, _safe(str(found), secrets), retry_after=retry)
    error = cast("dict[str, Any]", found)
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    word = code if isinstance(code, str) else kind if isinstance(kind, str) else ""
    param = error.get("param")
    return Refusal(
        status,
        _safe(str(error.get("message") or ""), secrets),
        word,
        param if isinstance(param, str) else "",
        error,
        retry,
    )


def without(text: str, secrets: Sequence[str]) -> str:
    """A text in which none of the secrets is."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _safe(message: str, secrets: Sequence[str]) -> str:
    message = without(message, secrets)
    message = " ".join(message.encode(errors="replace").decode().split())
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


_OVERFLOWS = ("context_length_exceeded", "exceed_context_size_error")
_NUMBERS = re.compile(r"\d{1,9}")


def as_error(refusal: Refusal, url: str, model: str | None = None) -> BridgeError:
    """The error that tells a refusal."""
    said = refusal.message or f"it answers with the status {refusal.status}"
    match refusal.status:
        case 401 | 403:
            why = f"the server wants another API key: set LLAMA_BRIDGE_API_KEY, or give RemoteBackend(api_key=...) ({said})"
            return AccessDenied(url, why, status=refusal.status)
        case 404 if refusal.code == "model_not_found" or (model and model in refusal.message):
            return ModelNotFound(model or url, f"the server {url} does not have it: {said}")
        case 429:
            return RateLimited(url, refusal.retry_after)
        case 503 if refusal.code == "busy":
            waiting = _NUMBERS.search(said)
            return Busy(int(waiting[0]) if waiting else 0)
        case status if 400 <= status < 500 and status not in (404, 405, 408):
            return _overflow(refusal) or InvalidInput(f"the server {url} refuses this: {said}")
        case _:
            page = " with a web page" * refusal.is_page
            return EngineError(f"the server {url} failed{page}: {said}")


def _overflow(refusal: Refusal) -> ContextOverflow | None:
    if refusal.code not in _OVERFLOWS and "maximum context length" not in refusal.message:
        return None
    facts = refusal.facts or {}
    needed, n_ctx = facts.get("n_prompt_tokens"), facts.get("n_ctx")
    if not isinstance(needed, int) or not isinstance(n_ctx, int):
        numbers = sorted({int(found) for found in _NUMBERS.findall(refusal.message)})
        if len(numbers) < 2:
            return None
        n_ctx, needed = numbers[0], numbers[-1]
        if "maximum context length" in refusal.message:  # the first number that is told
            n_ctx = int(_NUMBERS.findall(refusal.message)[0])
            needed = max(needed, n_ctx + 1)
    return ContextOverflow(needed, n_ctx)
