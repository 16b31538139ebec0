"""Settings, messages and tools as fields of requests. What a server has no field for is refused, never left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_bridge.chat.form import ChatWish
from llama_bridge.chat.tools import Tool
from llama_bridge.checks import shown
from llama_bridge.errors import InvalidInput
from llama_bridge.params import MAX_N_CTX, SamplingParams

__all__ = ["all_settings", "as_items", "as_messages", "some_settings", "text_of", "tool_fields"]

_NOT_PLAIN = frozenset(("max_tokens", "seed", "logit_bias", "dry_sequence_breakers"))
_PLAIN = tuple(name for name in SamplingParams.__dataclass_fields__ if name not in _NOT_PLAIN)
_COMMON = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_NOT_GREEDY = frozenset(
    (
        *("top_k", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold"),
        *("mirostat", "mirostat_tau", "mirostat_eta", "dynatemp_range", "dynatemp_exponent"),
    )
)
"""Settings without effect at the temperature 0."""
_FASTER = frozenset(("speculate",))
"""Settings that change nothing of what is drawn."""
_MOST_BIAS = 100.0
_DEFAULT = SamplingParams()


def all_settings(sampling: SamplingParams, seed: int, limit: str) -> dict[str, Any]:
    """All settings, for our own server.

    Args:
        sampling: the settings.
        seed: the seed.
        limit: the name of the field for ``max_tokens``.

    Raises:
        InvalidInput.
    """
    made: dict[str, Any] = {name: getattr(sampling, name) for name in _PLAIN}
    made["dry_sequence_breakers"] = list(sampling.dry_sequence_breakers)
    made |= {"seed": seed, limit: sampling.max_tokens or MAX_N_CTX}
    return made | _bias(sampling)


def some_settings(
    sampling: SamplingParams, seed: int, limit: str, known: Iterable[str] = ()
) -> dict[str, Any]:
    """The settings that OpenAI's interface has.

    Args:
        sampling: the settings. Those without a field must have their default, which means that the server does as it
            likes, or have no effect.
        seed: the seed.
        limit: the name of the field for ``max_tokens``.
        known: more settings that this server has, under their own names.

    Raises:
        InvalidInput: names the settings that the server does not have.
    """
    fields = (*_COMMON, *known)
    made: dict[str, Any] = {name: getattr(sampling, name) for name in fields}
    without = [
        name
        for name in (*_PLAIN, "dry_sequence_breakers")
        if name not in fields
        and name not in _FASTER
        and not (sampling.temperature == 0 and name in _NOT_GREEDY)
        and getattr(sampling, name) != getattr(_DEFAULT, name)
    ]
    if without:
        raise InvalidInput(
            f"{', '.join(f'{name}={shown(getattr(sampling, name))}' for name in without)}: a server with OpenAI's "
            "interface alone has no such setting: leave it out, or use llama-server or `llama-bridge serve`"
        )
    made["seed"] = seed
    if sampling.max_tokens is not None:
        made[limit] = sampling.max_tokens
    return made | _bias(sampling)


def _bias(sampling: SamplingParams) -> dict[str, Any]:
    bias: dict[str, float] = {}
    for token, value in sampling.logit_bias.items():
        if isinstance(token, str):
            raise InvalidInput(
                f"logit_bias has {shown(token)}: this server does not tell its tokens: give token ids"
            )
        if value != -math.inf and abs(value) > _MOST_BIAS:
            raise InvalidInput(
                f"logit_bias[{token}]={value}: this server takes numbers from -100, which bans, to 100"
            )
        bias[str(token)] = max(value, -_MOST_BIAS)
    return {"logit_bias": bias} if bias else {}


def as_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as they are, but for what other servers would not know."""
    return [dict(message) for message in messages]


def tool_fields(wish: ChatWish) -> dict[str, Any]:
    """The fields that tell tools."""
    if not wish.tools:
        return {}
    choice: Any = wish.choice
    if isinstance(choice, Tool):
        choice = {"type": "function", "function": {"name": choice.name}}
    made: dict[str, Any] = {"tools": [tool.spec for tool in wish.tools], "tool_choice": choice}
    if wish.parallel is not None:
        made["parallel_tool_calls"] = wish.parallel
    return made


def as_items(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as items of /v1/responses."""
    items: list[dict[str, Any]] = []
    for message in messages:
        role, content = message["role"], text_of(message)
        if role in ("tool", "function"):
            items.append(
                {
                    "type": "function_call_output",
                    "call_id": message.get("tool_call_id") or "",
                    "output": content,
                }
            )
            continue
        if thought := message.get("reasoning_content"):
            part = {"type": "reasoning_text", "text": thought}
            items.append({"type": "reasoning", "summary": [], "content": [part]})
        calls = message.get("tool_calls") or ()
        if content or not calls:
            items.append({"type": "message", "role": role, "content": content})
        for call in calls:
            function = call["function"]
            items.append(
                {
                    "type": "function_call",
                    "call_id": call.get("id") or "",
                    "name": function["name"],
                    "arguments": function["arguments"],
                }
            )
    return items


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message."""
    content: Any = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(part["text"]) for part in content)
