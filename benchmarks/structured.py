"""What a schema costs per token, with a vocabulary of 150,000: answers in a shape against free text."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llama_bridge import LlamaBridge, ModelParams, SamplingParams

from .measure import alternate, ratio, spread
from .report import Report

__all__ = ["measure_structured"]

_MOST = 1.15
"""Times the free text's time per token."""
_TOKENS = 128
_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20},
            "minItems": 3,
            "maxItems": 6,
        },
        "address": {
            "type": "object",
            "properties": {
                "street": {"type": "string", "maxLength": 30},
                "city": {"type": "string", "maxLength": 30},
                "zip": {"type": "integer"},
            },
            "required": ["street", "city", "zip"],
        },
        "verified": {"type": "boolean"},
    },
    "required": ["name", "age", "tags", "address", "verified"],
}


def _shapes() -> dict[str, dict[str, Any]]:
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=12)) for _ in range(1000)]
    enum = {"type": "array", "items": {"enum": sorted(set(words))}, "minItems": 12, "maxItems": 16}
    text = {"type": "string", "minLength": 400, "maxLength": 600}
    return {
        "free text": {},
        "JSON object": {"json_schema": _PERSON},
        "big enum": {"json_schema": enum},
        "long string": {"json_schema": text},
        "any JSON": {"json_schema": True},
        "log-probabilities": {"logprobs": 5},
    }


def measure_structured(
    report: Report, model: Path, backends: list[str], *, n_threads: int, rounds: int
) -> None:
    """A table and bounds per backend. Random weights are the worst case: nearly no draw fits a shape by itself."""
    for backend in backends:
        params = ModelParams(n_ctx=1024, n_threads=n_threads)
        with LlamaBridge(model, backend=backend, params=params) as llama:
            for shape in _shapes().values():  # what is made once: the tree of the vocabulary
                for _ in range(3):
                    llama.generate("Hello!", max_tokens=_TOKENS, **shape)
            seeds = iter(range(1, 1_000_000))
            contenders: dict[str, Callable[[], tuple[float, int]]] = {
                name: partial(_seconds_per_token, llama, seeds, shape)
                for name, shape in _shapes().items()
            }
            found = alternate(contenders, rounds, f"structured, {backend}")
        _tell(report, backend, llama_name=model.stem, found=found)


def _seconds_per_token(llama: LlamaBridge, seeds: Any, shape: dict[str, Any]) -> tuple[float, int]:
    sampling = SamplingParams(max_tokens=_TOKENS, seed=next(seeds))
    usage = llama.generate("Say something.", sampling=sampling, **shape).usage
    return usage.completion_seconds / usage.completion_tokens, usage.completion_tokens


def _tell(
    report: Report, backend: str, *, llama_name: str, found: dict[str, list[tuple[float, int]]]
) -> None:
    free = [seconds for seconds, _ in found["free text"]]
    rows: list[list[str]] = []
    for name, runs in found.items():
        each = [seconds for seconds, _ in runs]
        times = ratio(each, free)
        tokens = spread([n for _, n in runs]).median
        rows.append(
            [
                name,
                f"{1e3 * spread(each).median:.2f}",
                f"{times.median:.2f} ({times.low:.2f} to {times.high:.2f})",
                f"{tokens:.0f}",
            ]
        )
        if name not in ("free text", "log-probabilities", "any JSON"):
            report.bound(
                f"{backend}: a token of a {name} takes at most {_MOST} of a free one's time",
                times.median,
                times.median <= _MOST,
                f"{times.median:.2f}",
            )
    report.table(
        f"Structured output, {backend}: {_TOKENS} tokens, {llama_name}",
        ["", "ms a token", "of free text's", "tokens"],
        rows,
        "Medians. Tokens that a shape forces are appended together, and count.",
    )
