"""The simulation of a fleet gives what is known in closed form, and the sizes are those of a calculation by hand."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.fleet_simulation import ROUTINGS, Costs, Fleet, Result, Talk, simulate
from benchmarks.fleet_sizes import CELL, place_bytes, ranking_seconds, sizes

SESSION, PREFIX, LOAD, RANDOM = ROUTINGS
ENOUGH = 1 << 40
"""Cells for everything that is said."""


def one_queue(busy: float, room: int) -> Result:
    """A replica whose requests come at random (Poisson), and take a second each."""
    talk = Talk(starts=busy, turns=1, asked=1, answered=1, apps=1, system=0)
    costs = Costs(read=0.5, write=0.5)
    return simulate(RANDOM, Fleet(1, room=room), talk, costs, seconds=50_000, warm=500)


@pytest.mark.parametrize("busy", [0.3, 0.6])
def test_one_replica_that_answers_one_after_the_other_waits_as_long_as_an_m_d_1_queue(
    busy: float,
) -> None:
    seen = one_queue(busy, room=1)
    waited = statistics.fmean(seen.whole) - 1
    assert waited == pytest.approx(busy / (2 * (1 - busy)), rel=0.06)
    assert seen.work / seen.seconds == pytest.approx(busy, rel=0.03)


def test_one_replica_that_answers_all_at_once_takes_as_long_as_a_shared_processor() -> None:
    assert statistics.fmean(one_queue(0.5, room=1000).whole) == pytest.approx(2, rel=0.05)


def test_littles_law() -> None:
    seen = simulate(SESSION, Fleet(20), Talk(starts=0.5), Costs(), seconds=3000, warm=500)
    rate = seen.questions / seen.seconds
    assert seen.present == pytest.approx(rate * statistics.fmean(seen.whole), rel=0.03)


@pytest.mark.parametrize("replicas", [2, 5])
def test_at_random_each_replica_has_the_past_in_one_of_n_cases(replicas: int) -> None:
    talk = Talk(starts=1, turns=2, think=5, apps=1, system=0)
    costs = Costs(read=1e-4, write=1e-4)
    seen = simulate(RANDOM, Fleet(replicas, cells=ENOUGH), talk, costs, seconds=8000, warm=100)
    assert seen.hit_share == pytest.approx(1 / replicas, rel=0.06)


def test_a_conversation_that_stays_has_all_of_its_past_unless_it_had_to_go() -> None:
    talk, costs = Talk(starts=0.5, apps=1, system=0), Costs(read=1e-4, write=1e-4)
    kept = simulate(SESSION, Fleet(10, cells=ENOUGH), talk, costs, seconds=1000, warm=0)
    assert kept.hit_share == 1
    none = simulate(SESSION, Fleet(10, cells=100), talk, costs, seconds=1000, warm=0)
    assert none.hit_share == 0


def test_by_prefix_a_beginning_that_others_have_is_there() -> None:
    talk = Talk(starts=1, turns=2, apps=5, system=1000, asked=1, answered=1)
    costs = Costs(read=1e-5, write=1e-5)
    work = {
        name: simulate(name, Fleet(100, cells=3000), talk, costs, seconds=500, warm=200).work
        for name in (PREFIX, SESSION)
    }
    assert work[PREFIX] < 0.3 * work[SESSION]


def test_a_store_makes_what_is_missing_cheap() -> None:
    fleet, talk = Fleet(50), Talk(starts=0.5)
    again = simulate(RANDOM, fleet, talk, Costs(), seconds=500, warm=300)
    stored = simulate(RANDOM, fleet, talk, Costs(restore=1e-4), seconds=500, warm=300)
    assert stored.work < 0.6 * again.work


def test_a_replica_above_the_bound_takes_no_more() -> None:
    """Everybody has the same system prompt, so all want the same replica."""
    talk = Talk(starts=2, apps=1)
    seen = simulate(PREFIX, Fleet(40), talk, Costs(restore=1e-4), seconds=500, warm=300)
    assert statistics.fmean(seen.whole) < 100


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    def run(seed: int) -> list[float]:
        return simulate(
            LOAD, Fleet(10), Talk(starts=0.1), Costs(), seconds=300, warm=0, seed=seed
        ).whole

    assert run(1) == run(1) != run(2)


def test_sizes_are_those_of_a_calculation_by_hand() -> None:
    talk = Talk(starts=1, turns=3, think=50, asked=60, answered=40, system=100)
    seen = Result(whole=[8.0, 12.0], past=800, cached=600, questions=2, work=6.0)
    found = sizes(600, talk, seen)
    assert found.questions == 10  # 600 people, each once in 60 s
    assert found.replicas == 50  # 30 s of work a second, 60 % busy
    assert found.tokens == 400
    assert found.kept == 600 * 300 * CELL  # 200, 300 and 400 tokens after three answers
    assert found.stored == 10 * 300 * CELL
    assert found.restored == 10 * 100 * CELL
    assert found.restores == pytest.approx(10 * 2 / 3 / 4)
    assert CELL == 12_288


def test_ranking_takes_longer_the_more_replicas_there_are() -> None:
    assert ranking_seconds(1000) > 5 * ranking_seconds(10)
    assert 50 < place_bytes(1000) < 2000
