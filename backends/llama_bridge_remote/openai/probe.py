"""What a server can do: ours says so, others are asked for as little as possible, and what comes is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from llama_bridge.capabilities import Capability, as_capability
from llama_bridge.errors import EngineError, InvalidInput
from llama_bridge.generation import Mode

from ..client import Client, Line, Refused
from ..events import as_object
from .any_server import schema_field
from .replies import Asked, ChatReply
from .shape import Shape

__all__ = ["AT_BEST", "of_any_server", "of_bridge_server"]

AT_BEST = (
    Capability.GENERATE
    | Capability.STREAM
    | Capability.CANCEL
    | Capability.JSON_SCHEMA
    | Capability.LOGPROBS
    | Capability.CHAT_TEMPLATE
    | Capability.TOOLS
    | Capability.KV_CONTINUATION
    | Capability.SESSION_TOOLS
    | Capability.SESSION_PERSISTENCE
    | Capability.PREFIX_CACHE
    | Capability.EMBEDDINGS
    | Capability.RERANK
    | Capability.PARALLEL
)
"""What a server with OpenAI's interface can do here."""

_TALKS = Capability.GENERATE | Capability.STREAM | Capability.CANCEL | Capability.PARALLEL
_WORD = "umbrella-17"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"found": {"type": "string", "enum": [_WORD]}},
    "required": ["found"],
    "additionalProperties": False,
}
"""Nobody says this without being made to."""
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "find_lost_umbrella",
        "description": "Finds an umbrella that was lost",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"type": "string"}},
            "required": ["colour"],
        },
    },
}


def of_bridge_server(client: Client, record: Mapping[str, Any], name: str) -> Capability:
    """What ``llama-bridge serve`` says that it can do with a model. One that is not loaded yet is loaded for it.

    Raises:
        EngineError, Refused.
    """
    if not isinstance(record.get("capabilities"), list):
        with suppress(Refused):  # it may embed alone: it is loaded then, too
            _said(client, name, {"max_tokens": 1})
        listed = as_object(client.get("/v1/models")).get("data")
        records = map(as_object, cast("list[object]", listed) if isinstance(listed, list) else ())
        record = next((one for one in records if one.get("id") == record.get("id")), record)
    found = Capability(0)
    flags = record.get("capabilities")
    for flag in cast("list[object]", flags) if isinstance(flags, list) else ():
        with suppress(InvalidInput):  # one that is newer than this client
            found |= as_capability(str(flag))
    if Capability.GENERATE in found:
        found |= _TALKS
    if Capability.SESSION_TOOLS not in found:
        found &= ~Capability.KV_CONTINUATION
    if record.get("keeps_responses") is not True:  # over a restart
        found &= ~Capability.SESSION_PERSISTENCE
    return found & AT_BEST


def of_any_server(client: Client, name: str) -> Capability:
    """What a server does when it is asked: an answer of one token, one with a schema, a call, a vector.

    Raises:
        EngineError: it answers nothing of it.
    """
    found = Capability(0)
    refused = ""
    try:
        _said(client, name, {"max_tokens": 1})
        found |= _TALKS | Capability.CHAT_TEMPLATE
    except (Refused, EngineError) as error:
        refused = str(error)
    if found:
        with suppress(Refused, EngineError):
            text = _said(client, name, {"max_tokens": 64, **schema_field(_SCHEMA)})
            if Shape(_SCHEMA).fits(text):
                found |= Capability.JSON_SCHEMA
        with suppress(Refused, EngineError):
            fields = {"max_tokens": 128, "tools": [_TOOL], "tool_choice": "required"}
            if '"c":[' in _said(client, name, fields, spoken=True):
                found |= Capability.TOOLS
    with suppress(Refused, EngineError, TypeError, KeyError, IndexError):
        answer = client.post("/v1/embeddings", {"model": name, "input": ["umbrella"]})
        if len(answer["data"][0]["embedding"]) > 0:
            found |= Capability.EMBEDDINGS
    if not found:
        raise EngineError(
            f"the server {client.url} has the model {name!r}, but neither answers nor embeds with it: {refused}"
        )
    return found


def _said(client: Client, name: str, fields: Mapping[str, Any], *, spoken: bool = False) -> str:
    """What the server answers to a short question."""
    reply = ChatReply(Asked(Mode.FRESH, None, 0, spoken))
    question = "Find my lost red umbrella."
    body = {
        "model": name,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "stream": True,
        **fields,
    }
    with client.stream("/v1/chat/completions", body, Line(), {}) as events:
        text = "".join([reply.hear(event) for event in events])
    if not reply.enough:
        raise EngineError("the server's answer broke off")
    return text
