"""How much of a prompt goes beside answers: as much as lets no stream stop for more than three steps' time."""

from __future__ import annotations

import random

import pytest

from llama_bridge.local.pace import Pace


def times_of(pace: Pace, n_answers: int, per_token: float, noise: float, steps: int) -> list[float]:
    """How long steps take on a machine where a step takes 1, and a token of a prompt so much more; in steps."""
    chance = random.Random(7)
    found: list[float] = []
    for _ in range(steps):
        room = pace.room(n_answers)
        seconds = (1 + room * per_token) * (1 + noise * chance.random())
        pace.note(n_answers, room, seconds)
        found.append(seconds)
    return found


@pytest.mark.parametrize("per_token", [0.001, 0.05, 0.3, 1.0])
def test_no_step_takes_more_than_three(per_token: float) -> None:
    found = times_of(Pace(), 4, per_token, 0.0, 200)[1:]
    begun = found.index(next(t for t in found if t < 3))
    assert begun <= 4, "it learns in a few steps"
    assert max(found[begun:]) <= 3
    if per_token < 1:
        assert found[-1] > 2, "it uses the time that it has"


def test_on_a_noisy_machine_most_steps_keep_to_it() -> None:
    found = sorted(times_of(Pace(), 4, 0.05, 0.3, 400)[20:])
    assert found[int(0.95 * len(found))] <= 3.3
    assert found[len(found) // 2] > 1.5


def test_the_first_step_with_so_many_answers_is_measured_without_a_prompt() -> None:
    pace = Pace()
    assert pace.room(1) == 0
    pace.note(1, 0, 0.01)
    assert pace.room(1) > 0
    assert pace.room(2) == 0


def test_a_prompt_always_gets_on() -> None:
    pace = Pace()
    pace.note(1, 0, 0.001)
    for _ in range(50):
        pace.note(1, pace.room(1), 10.0)
    assert pace.room(1) == 1
