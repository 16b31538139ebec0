"""How tokens are drawn, as a request says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..errors import InvalidInput
from ..params import SamplingParams, SamplingSettings, override
from .fields import Fields
from .refusals import Refused, as_refused

__all__ = ["SEEDS", "read_sampling"]

SEEDS = 2**32 - 1
"""How many seeds there are; a client's larger number stands for one of them."""

_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "dry_base",
    "xtc_probability",
    "xtc_threshold",
    "typical_p",
    "top_n_sigma",
    "mirostat_tau",
    "mirostat_eta",
    "dynatemp_range",
    "dynatemp_exponent",
)
_MOST_BIASES = 10_000
"""Each costs time with each token that is drawn."""

_WHOLE = ("top_k", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n", "mirostat")


def read_sampling(fields: Fields, limits: Sequence[str]) -> SamplingSettings:
    """Read OpenAI's settings, and those of :class:`SamplingParams` under their own names.

    Args:
        fields: of the request.
        limits: the names that ``max_tokens`` may have; the first that is given counts.

    Raises:
        Refused: names the field.
    """
    settings: dict[str, Any] = {}
    for name in _NUMBERS:
        if (number := fields.number(name)) is not None:
            settings[name] = number
    for name in _WHOLE:
        if (whole := fields.whole(name, -(1 << 62), 1 << 62)) is not None:
            settings[name] = whole
    for name in reversed(limits):
        if (most := fields.whole(name, 1)) is not None:
            settings["max_tokens"] = most
    if (seed := fields.whole("seed", -(1 << 63), (1 << 64) - 1)) is not None:
        settings["seed"] = seed % SEEDS
    if "dry_sequence_breakers" in fields:
        settings["dry_sequence_breakers"] = fields.texts("dry_sequence_breakers")
    if "speculate" in fields:
        settings["speculate"] = fields.flag("speculate")
    bias = _bias(fields)
    if bias:
        settings["logit_bias"] = bias
    made = cast("SamplingSettings", settings)
    try:
        override(SamplingParams(), made)
    except InvalidInput as error:
        raise as_refused(error, {"max_tokens": limits[0]}) from error
    return made


def _bias(fields: Fields) -> dict[int | str, float]:
    given = fields.plain_object("logit_bias")
    bias: dict[int | str, float] = {}
    if given is not None and len(given) > _MOST_BIASES:
        raise fields.refuse("logit_bias", f"at most {_MOST_BIASES:,} tokens")
    for token, value in (given or {}).items():
        place = fields.place("logit_bias")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 100:
            raise Refused(
                400,
                f"{place} has {token[:40]!r} with a value that is no number from -100 to 100",
                param=place,
                code="invalid_value",
            )
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise Refused(
                400,
                f"{place} has {token[:40]!r}: give a token id",
                param=place,
                code="invalid_value",
            )
        bias[int(token)] = float(value)
    return bias
