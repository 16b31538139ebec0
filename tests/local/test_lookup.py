"""What was said before is found in microseconds, whatever was said, taken back or interrupted meanwhile."""

from __future__ import annotations

import random
import sys
import time
from types import FrameType
from typing import Any

import pytest

from llama_bridge.local.lookup import LONG, SHORT, Lookup


def agreeing(tokens: list[int], place: int) -> int:
    """How many tokens before a place are also the last ones."""
    n = 0
    while n < min(place, LONG) and tokens[place - 1 - n] == tokens[-1 - n]:
        n += 1
    return n


def longest(tokens: list[int]) -> int:
    """The most tokens that agree before any earlier place; 0 if fewer than it takes."""
    most = max((agreeing(tokens, place) for place in range(1, len(tokens))), default=0)
    return most if most >= SHORT else 0


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_search_of_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    alphabet, tokens, lookup = rng.choice((4, 9, 30)), [1, 2], Lookup()
    for _ in range(300):
        if rng.random() < 0.1:
            del tokens[rng.randrange(len(tokens)) :]
        elif rng.random() < 0.2:  # a quote
            at = rng.randrange(len(tokens) + 1)
            tokens += tokens[at : at + rng.randrange(20)]
        tokens += [rng.randrange(alphabet) for _ in range(rng.randrange(4))]
        lookup.follow(tokens)
        found = lookup.find()
        assert lookup.tokens == tokens
        assert (found is not None) == (longest(tokens) > 0)
        if found is not None:
            place, n = found
            assert agreeing(tokens, place) == n >= SHORT
            if alphabet == 30:  # so few places that none is left out
                assert n == longest(tokens)
            guess = lookup.guess(place, 7)
            assert len(guess) == 7
            assert guess[: len(tokens) - place] == tokens[place : place + 7]


CLOCK = getattr(time, "thread_time", time.process_time)  # a page has no threads


def test_what_repeats_itself_goes_on() -> None:
    lookup = Lookup()
    lookup.follow([9, 1, 2, 3, 1, 2, 3, 1, 2])
    found = lookup.find()
    assert found == (6, 5)
    assert lookup.guess(6, 8) == [3, 1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [1, 1, 1], [0] * 3, [1, 2, 3]])
def test_a_beginning_has_nothing_before_it(tokens: list[int]) -> None:
    lookup = Lookup()
    lookup.follow(tokens)
    assert lookup.find() is None


def test_tokens_of_the_largest_vocabularies_are_told_apart() -> None:
    lookup = Lookup()
    lookup.follow([1, 2, (1 << 20) + 3, 4, 2, 1, 2, 3])
    assert lookup.find() is None


def test_a_token_costs_as_much_as_a_few_lines_of_python() -> None:
    """A page's Python takes ten times a desktop's time, so the measure is this Python's own."""
    rng = random.Random(0)
    tokens = [rng.randrange(50) ** 2 for _ in range(30_000)]  # each three of them come often
    clock, counts = CLOCK(), dict[int, int]()
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    plain = (CLOCK() - clock) / 30_000  # 0.1 us on a desktop
    lookup = Lookup()
    clock = CLOCK()
    lookup.follow(tokens)
    read = CLOCK() - clock
    clock = CLOCK()
    for token in tokens[:2000]:
        lookup.find()
        lookup.add((token,))
    found = CLOCK() - clock
    clock = CLOCK()
    lookup.follow([*tokens, 1, 2, 3])  # the next turn: 2000 tokens are taken back
    again = CLOCK() - clock
    assert read / 30_000 < 25 * plain
    assert found / 2000 < 250 * plain
    assert again / 2000 < 250 * plain


def test_an_interrupt_at_any_line_loses_nothing() -> None:
    rng = random.Random(1)
    before, after = ([rng.randrange(3) for _ in range(40)] for _ in range(2))
    fresh = Lookup()
    fresh.follow(after)
    at, left = 0, 0

    def interrupt(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename.endswith("lookup.py") and event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return interrupt

    while left <= 0:
        at += 1
        left, lookup = at, Lookup()
        lookup.follow(before)
        trace = sys.gettrace()
        try:
            sys.settrace(interrupt)
            lookup.follow([*before[:20], *after])
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(trace)
        lookup.follow(after)
        assert (lookup.tokens, lookup.find()) == (fresh.tokens, fresh.find())
        lookup.add(after[:5])
        assert lookup.tokens == after + after[:5]
    assert at > 100
