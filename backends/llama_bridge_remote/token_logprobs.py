"""Log probabilities of tokens, as llama-server and ``llama-bridge serve`` write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from llama_bridge.errors import EngineError
from llama_bridge.generation import TokenLogprob

__all__ = ["read_logprobs"]


def read_logprobs(given: object, n_top: int) -> list[TokenLogprob]:
    """One for each token, with the ``n_top`` best at its place.

    Raises:
        EngineError: they are not what they should be.
    """
    if not isinstance(given, list):
        return []
    try:
        return [_read(one, n_top) for one in cast("list[Mapping[str, Any]]", given)]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise EngineError(
            f"the server's answer has log probabilities that are none: {error!r}"
        ) from error


def _read(one: Mapping[str, Any], n_top: int) -> TokenLogprob:
    top = cast("list[Mapping[str, Any]]", one.get("top_logprobs") or [])
    best = tuple(_read(each, 0) for each in top[:n_top])
    data = bytes([*(one.get("bytes") or ())])
    logprob = min(0.0, float(one.get("logprob") or 0.0))
    return TokenLogprob(int(one["id"]), str(one.get("token") or ""), data, logprob, best)
