"""Some seconds of each attack; ``make attack`` goes on for minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .runner import ATTACKS, Outcome, run

pytestmark = [
    pytest.mark.slow,
    # An interrupt may come between a file's opening and the block that closes it: its last reference does.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(sys.platform == "emscripten", reason="needs threads and signals"),
]


@pytest.mark.parametrize(
    ("name", "seconds"), [("interrupts", 6), ("arguments", 30), ("readers", 2), ("folders", 2)]
)
def test_nothing_is_found(name: str, seconds: float) -> None:
    outcome = run(ATTACKS[name], seed=1, seconds=seconds)
    assert outcome.found == []
    assert outcome.tries > 3


def test_each_attack_has_its_short_form() -> None:
    assert set(ATTACKS) == {"interrupts", "arguments", "readers", "folders"}


def test_what_is_found_is_counted_and_time_is_kept() -> None:
    def attack(seed: int) -> Iterator[str | None]:
        yield None
        yield f"something {seed}"
        while True:
            yield None

    outcome = run(attack, seed=7, seconds=0.1)
    assert isinstance(outcome, Outcome)
    assert outcome.found == ["something 7"]
    assert not outcome.whole
    assert outcome.tries > 2
