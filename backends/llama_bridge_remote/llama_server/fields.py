"""Settings and grammars as fields of ``/completion``. llama-server has all of them, under its own names."""

from __future__ import annotations

import math
import re
from typing import Any

from llama_bridge.grammar import Grammar
from llama_bridge.params import SamplingParams

__all__ = ["grammar_fields", "sampling_fields"]

_SAME = (
    *("temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p", "min_p"),
    *("xtc_probability", "xtc_threshold", "typical_p", "repeat_last_n", "repeat_penalty"),
    *("presence_penalty", "frequency_penalty", "dry_multiplier", "dry_base"),
    *("dry_allowed_length", "mirostat", "mirostat_tau", "mirostat_eta"),
)
_ORDER = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
"""That of :class:`SamplingParams`, whatever the server was started with."""
_TRIGGERS = {"token": 0, "word": 1, "pattern": 2, "pattern_full": 3}


def sampling_fields(sampling: SamplingParams, seed: int, n_ctx: int) -> dict[str, Any]:
    """How tokens are drawn. ``logit_bias`` must be by token id.

    ``speculate`` has no field: it changes nothing of what is drawn.
    """
    made: dict[str, Any] = {name: getattr(sampling, name) for name in _SAME}
    made["top_n_sigma"] = sampling.top_n_sigma or -1.0
    last_n = sampling.dry_penalty_last_n
    made["dry_penalty_last_n"] = n_ctx if last_n < 0 else last_n
    made["dry_sequence_breakers"] = list(sampling.dry_sequence_breakers)
    made["samplers"] = list(_ORDER)
    made["seed"] = seed
    made["logit_bias"] = [
        [token, False if value == -math.inf else value]
        for token, value in sampling.logit_bias.items()
    ]
    return made


def grammar_fields(grammar: Grammar | None) -> dict[str, Any]:
    """What the answer must look like."""
    if grammar is None:
        return {}
    text = grammar.text
    if grammar.root != "root":  # the server's is always called root
        text = re.sub(r"^root ::=.*$", "", text, flags=re.M) + f"\nroot ::= {grammar.root}\n"
    made: dict[str, Any] = {"grammar": text}
    if grammar.lazy:
        made["grammar_lazy"] = True
        made["grammar_triggers"] = [
            {
                "type": _TRIGGERS[trigger.kind],
                "value": trigger.value,
                "token": -1 if trigger.token is None else trigger.token,
            }
            for trigger in grammar.triggers
        ]
    if grammar.begun:
        made["generation_prompt"] = grammar.begun
    return made
