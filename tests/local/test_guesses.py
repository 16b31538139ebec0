"""Guesses are made where they pay, and nowhere does it become slower than the bound: here with times that are made up."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from llama_bridge.local.guesses import Guesses

Cost = Callable[[int], float]
COSTS: dict[str, Cost] = {
    "another kernel from two rows on": lambda rows: 1 if rows == 1 else 1.2 + rows * 0.4,
    "each row as much as one": float,
    "rows for nothing": lambda rows: 0.98 + 0.02 * rows,
    "worse than one by one": lambda rows: rows**1.2,
}
FLOOR = 0.97


class Play:
    """Says texts with guesses, as an answer does; counts what it costs."""

    def __init__(self, cost: Cost, seed: int = 0) -> None:
        self.guesses = Guesses(31, ends=(0,))
        self.cost = cost
        self.n = self.drafted = self.accepted = 0
        self.took = 0.0
        self._rng = random.Random(seed)

    def say(self, prompt: list[int], answer: list[int]) -> float:
        """How many times faster than one by one."""
        guesses, took, i = self.guesses, 0.0, 0
        guesses.follow(prompt)
        while i < len(answer):
            guessed = guesses.next(len(answer) - i - 1)
            right = 0
            while right < len(guessed) and guessed[right] == answer[i + right]:
                right += 1
            for token in answer[i : i + right + 1]:
                guesses.said(token)
            i += right + 1
            cost = self.cost(len(guessed) + 1)
            took += cost
            measured = cost * self._rng.choice((0.9, 1, 1, 1.1, 2)) * 0.02
            if guessed:
                guesses.took(len(guessed), right + 1, measured)
                self.drafted += len(guessed)
                self.accepted += right
            else:
                guesses.took_single(measured)
        self.took += took
        self.n += len(answer)
        return len(answer) / took

    @property
    def gain(self) -> float:
        return self.n / self.took


def words(rng: random.Random, n: int, of: int = 100_000) -> list[int]:
    return [rng.randrange(1, of) for _ in range(n)]


@pytest.mark.parametrize(("name", "least"), [*zip(COSTS, (1.6, 0.97, 8, 0.97), strict=True)])
def test_quotes_come_as_much_faster_as_rows_are_cheaper(name: str, least: float) -> None:
    rng, play = random.Random(1), Play(COSTS[name])
    for _ in range(5):
        text = words(rng, 400)
        play.say(text, text[40:360])
    assert play.gain >= least


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("seed", range(5))
def test_what_only_looks_like_a_quote_is_never_slower_than_the_bound(name: str, seed: int) -> None:
    """The worst that a text can do: the same words again and again, and then always others."""
    rng, play = random.Random(seed), Play(COSTS[name], seed)
    for agree in (3, 8, 20):
        begin = words(rng, agree)
        text = [token for _ in range(60) for token in (*begin, *words(rng, 3))]
        play.say(text[:50], text[50:])
    for _ in range(20):  # short answers
        begin = words(rng, 4)
        play.say([*begin, *words(rng, 9), *begin], words(rng, 12))
    assert play.gain >= FLOOR


@pytest.mark.parametrize("name", COSTS)
def test_a_text_that_quotes_now_and_then_is_not_slower_either(name: str) -> None:
    rng, play = random.Random(3), Play(COSTS[name])
    for _ in range(40):
        text = words(rng, 60)
        answer = [*words(rng, 20), *text[10:16], *words(rng, 20), *text[30:45], *words(rng, 10)]
        play.say(text, answer)
    assert play.gain >= FLOOR


def test_where_nothing_repeats_nothing_is_guessed() -> None:
    rng, play = random.Random(4), Play(COSTS["rows for nothing"])
    for _ in range(10):
        assert play.say(words(rng, 300), words(rng, 300)) == 1
    assert play.drafted == 0


def test_it_begins_again_where_a_text_quotes_again() -> None:
    rng, play = random.Random(5), Play(COSTS["another kernel from two rows on"])
    text = words(rng, 500)
    play.say(text, text[:300])
    begin = words(rng, 3)
    play.say(text, [token for _ in range(300) for token in (*begin, *words(rng, 2))])
    before = play.drafted
    assert play.say(text, text[100:400]) > 1.5
    assert play.drafted > before


def test_a_machine_that_was_busy_for_a_moment_is_measured_again() -> None:
    rng, play = random.Random(6), Play(COSTS["another kernel from two rows on"])
    text = words(rng, 500)
    play.say(text, text[:100])
    for rows in (1, 3, 7, 15):
        play.guesses.took(rows, rows + 1, 100.0)
    for _ in range(3):
        play.say(text, text[:450])
    assert play.say(text, text[:450]) > 1.4


def test_nothing_is_guessed_before_a_step_was_measured_and_no_end_ever() -> None:
    guesses = Guesses(31, ends=(0,))
    guesses.follow([5, 6, 7, 8, 9, 0, 4, 5, 6, 7, 8])
    assert guesses.next(15) == []
    for _ in range(40):
        guesses.took_single(1.0)
        guesses.follow([])
        guesses.follow([5, 6, 7, 8, 9, 0, 4] * 9)
        for token in (5, 6, 7):
            guesses.next(15)
            guesses.said(token)
    assert guesses.next(15) == [8, 9]
    assert guesses.next(1) == [8]
    assert guesses.next(0) == guesses.next(-3) == []


def test_an_engine_that_checks_few_guesses_gets_few() -> None:
    rng, text = random.Random(7), words(random.Random(8), 300)
    for most in (1, 2, 5, 15, 31):
        guesses, largest = Guesses(most), 0
        guesses.follow(text)
        for token in text:
            largest = max(largest, len(guesses.next(rng.randrange(1, 40))))
            guesses.said(token)
            guesses.took_single(1.0)
        assert 0 < largest <= most
