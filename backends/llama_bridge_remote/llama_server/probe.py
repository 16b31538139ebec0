"""What a llama-server can do: it is asked, and what comes is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.errors import BridgeError, EngineError

from ..client import Client, Refused
from ..events import as_object
from .facts import Facts
from .vocabulary import Vocabulary

__all__ = ["capabilities_of"]

_TEXT = "The quick brown fox jumps over the lazy dog."
_ALWAYS = (
    Capability.GENERATE
    | Capability.STREAM
    | Capability.CANCEL
    | Capability.TOKENS
    | Capability.JSON_SCHEMA
    | Capability.LOGPROBS
)


def capabilities_of(client: Client, facts: Facts, vocabulary: Vocabulary) -> Capability:
    """What it can do with its model.

    Raises:
        EngineError: it neither answers nor embeds.
    """
    found, why = Capability(0), ""
    try:
        found |= _talking(client, facts, vocabulary)
    except (Refused, BridgeError) as error:
        why = str(error)
    if found and facts.chat_template:
        found |= Capability.CHAT_TEMPLATE | Capability.TOOLS
    with suppress(Refused, EngineError, TypeError, KeyError, IndexError):
        answer = client.post("/v1/embeddings", {"input": [_TEXT]})
        if len(answer["data"][0]["embedding"]) > 0:
            found |= Capability.EMBEDDINGS
    with suppress(Refused, EngineError, TypeError, KeyError, IndexError):
        answer = client.post("/v1/rerank", {"query": _TEXT, "documents": [_TEXT]})
        if "relevance_score" in answer["results"][0]:
            found |= Capability.RERANK
    if not found:
        raise EngineError(f"the server {client.url} neither answers nor embeds: {why}")
    return found


def _talking(client: Client, facts: Facts, vocabulary: Vocabulary) -> Capability:
    """How far it answers: whether what a slot holds is used again, and whether slots can be kept in files."""
    tokens = vocabulary.tokenize(_TEXT, add_special=True, parse_special=False)
    first = _answer(client, tokens)
    slot = first.get("id_slot")
    answered: object = first.get("tokens")
    if not isinstance(slot, int) or not isinstance(answered, list) or not answered:
        raise EngineError("the server's answer to /completion has no slot or no tokens")
    found = _ALWAYS
    if facts.n_slots > 1:
        found |= Capability.PARALLEL
    longer: list[Any] = [*tokens, *answered, *tokens[-2:]]
    if _cached(_answer(client, longer)) > 0:
        found |= Capability.KV_CONTINUATION
        if _cached(_answer(client, [*tokens[:-2], tokens[-1]])) > 0:
            found |= Capability.PREFIX_CACHE
        if _keeps_slots(client, slot):
            found |= Capability.SESSION_PERSISTENCE
    return found


def _answer(client: Client, tokens: list[int]) -> Mapping[str, Any]:
    body = {
        "prompt": tokens,
        "n_predict": 1,
        "temperature": 0,
        "cache_prompt": True,
        "return_tokens": True,
    }
    return as_object(client.post("/completion", body))


def _cached(answer: Mapping[str, Any]) -> int:
    found: object = as_object(answer.get("timings")).get("cache_n")
    return found if isinstance(found, int) else 0


def _keeps_slots(client: Client, slot: int) -> bool:
    """Whether there is a folder for slots: with one, an impossible name is what the server objects to."""
    try:
        client.change(f"/slots/{slot}?action=save", {"filename": "../impossible"})
    except Refused as refused:
        return refused.refusal.status == 400 and "filename" in refused.refusal.message.lower()
    except EngineError:
        return False
    return False
