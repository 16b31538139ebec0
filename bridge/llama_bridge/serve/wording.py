"""What an answer cost and how it ended, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._version import __version__
from ..generation import Generation, TokenLogprob, Usage
from .refusals import Refused

__all__ = ["FINGERPRINT", "checked_reason", "facts", "logprobs_record", "usage_record"]

FINGERPRINT = f"llama-bridge {__version__}"
"""What has answered: with the same, a seed gives the same answer."""


def checked_reason(result: Generation) -> str:
    """Why an answer ended.

    Raises:
        Refused: somebody else ended it, such as a program that holds the same model; OpenAI has no word for that.
    """
    if result.finish_reason == "cancelled":
        raise Refused(503, "the answer was ended by somebody else", code="cancelled")
    return result.finish_reason


def facts(result: Generation) -> dict[str, Any]:
    """What OpenAI's shape has no place for: whether an answer continued a session, and if not, why."""
    return {
        "mode": result.mode.value,
        "fallback": None if result.fallback is None else str(result.fallback),
    }


def usage_record(usages: Sequence[Usage]) -> dict[str, Any]:
    """What several answers to one prompt cost: the prompt is counted once, as OpenAI does."""
    prompt, completion = usages[0].prompt_tokens, sum(one.completion_tokens for one in usages)
    drafted, accepted = (
        sum(one.drafted_tokens for one in usages),
        sum(one.accepted_tokens for one in usages),
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usages[0].cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": drafted - accepted,
        },
    }


def logprobs_record(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    """Log probabilities of a chat's answer; ``id`` of each token is ours, and llama-server's."""
    if tokens is None:
        return None
    content = [_one(token) | {"top_logprobs": [_one(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _one(token: TokenLogprob) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes so for what is next to impossible.
    logprob = max(token.logprob, -9999.0)
    return {
        "id": token.token,
        "token": token.text,
        "logprob": logprob,
        "bytes": list(token.data),
    }
