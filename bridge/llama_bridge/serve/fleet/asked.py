"""A request on its way from the ingress to a replica, and which conversation it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import Scope

from ...json_text import read_json
from ..kept_responses import made_by
from .placing import Conversation

__all__ = ["SESSION_HEADER", "Asked", "conversation_of"]

SESSION_HEADER = "x-session-id"

_TEXT = 1024
"""Characters of a raw prompt that tell one conversation from another."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        scope: what ASGI says of it, as far as a replica needs it.
        body: all of it.
        conversation: it belongs to.
    """

    scope: Mapping[str, Any]
    body: bytes
    conversation: Conversation

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> Asked:
        """The request of an ASGI scope."""
        kept = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string")
        told = {name: scope[name] for name in (*kept, "root_path", "headers") if name in scope}
        told["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        for name in ("client", "server"):
            told[name] = tuple(scope[name]) if scope.get(name) else None
        return cls(told, body, conversation_of(scope, body))


def conversation_of(scope: Scope, body: bytes) -> Conversation:
    """Which conversation a request belongs to: by its header ``x-session-id``, by the response that it goes on from, or else
    by how it begins.
    """
    headers = Headers(scope=scope)
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    fields = _fields(body)
    previous = fields.get("previous_response_id")
    if not isinstance(previous, str) and path.startswith("/v1/responses/"):
        previous = path.split("/")[3]
    maker = made_by(previous) if isinstance(previous, str) else ""
    if session := headers.get(SESSION_HEADER, ""):
        # Of two owners with the same session id, each has one of its own.
        owner = headers.get("authorization") or headers.get("x-api-key") or ""
        return Conversation(maker, _digest([owner, session]))
    if isinstance(previous, str):
        return Conversation(maker, "" if maker else _digest(previous))
    return Conversation("", _beginning(fields))


def _fields(body: bytes) -> Mapping[str, Any]:
    """The fields of a body; none if it is no JSON object. A member says what is wrong with it."""
    try:
        value: Any = read_json(body.decode()) if body else None
    except ValueError:
        return {}
    return _as_object(value)


def _as_object(value: Any) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _beginning(fields: Mapping[str, Any]) -> str:
    """A digest of how a conversation begins: all up to the first thing that its user says. Empty if it has no history."""
    messages: Any = fields.get("messages")
    if isinstance(messages, list):
        begin: list[Any] = []
        for message in messages:  # pyright: ignore[reportUnknownVariableType]
            begin.append(message)
            if _as_object(message).get("role") == "user":
                break
        return _digest([fields.get("model"), fields.get("tools"), begin])
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return _digest([fields.get("model"), prompt[:_TEXT]])
    return ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
