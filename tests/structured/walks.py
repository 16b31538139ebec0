"""Random texts of a grammar, found by a Matcher."""

from __future__ import annotations

import random

from llama_bridge.structured import Matcher

__all__ = ["accepts", "walk"]


def walk(start: Matcher, rng: random.Random, soft: int = 100) -> str:
    """A text that the grammar accepts; after about ``soft`` characters it ends as soon as it can."""
    matcher = start.copy()
    written: list[str] = []
    while not matcher.must_end:
        if matcher.may_end and rng.random() < 0.3:
            break
        if len(written) > soft:
            rest = matcher.completion()
            assert matcher.accept(rest)
            assert matcher.may_end
            written.append(rest)
            break
        part = matcher.forced() or _character(matcher, rng)
        assert matcher.accept(part)
        written.append(part)
    return "".join(written)


def _character(matcher: Matcher, rng: random.Random) -> str:
    ranges = matcher.allowed()
    low, high = rng.choices(ranges, [min(b - a + 1, 30) for a, b in ranges])[0]
    return chr(rng.randint(low, high if rng.random() < 0.5 else min(high, low + 30)))


def accepts(start: Matcher, text: str) -> bool:
    """Whether the grammar accepts the whole text."""
    matcher = start.copy()
    return matcher.accept(text) and matcher.may_end
