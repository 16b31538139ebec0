"""A conversation stays where its KV cache is, unless that replica has too much to do."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from llama_bridge.serve.fleet.placing import Conversation, Placing, _number
from llama_bridge.serve.kept_responses import replica_mark
from tests.pace import idle_seconds

FOUR = {f"replica {i}": 0 for i in range(4)}


def keyed(i: int) -> Conversation:
    return Conversation(key=f"conversation {i}")


def test_a_conversation_stays_with_who_had_it() -> None:
    placing = Placing(room=4)
    for i in range(100):
        first, second, *_ = placing.ranked(keyed(i), FOUR)
        placing.placed(keyed(i), second)  # the first one was full
        assert placing.ranked(keyed(i), FOUR)[0] == second != first


def test_all_who_ask_agree_and_the_conversations_spread() -> None:
    homes = [Placing().ranked(keyed(i), FOUR)[0] for i in range(400)]
    assert homes == [Placing().ranked(keyed(i), FOUR)[0] for i in range(400)]
    assert min(Counter(homes).values()) > 60


def test_only_its_share_moves_when_a_replica_goes_or_comes() -> None:
    three = dict(list(FOUR.items())[:3])
    for i in range(200):
        here, there = (Placing().ranked(keyed(i), loads)[0] for loads in (FOUR, three))
        assert here in (there, "replica 3")


def test_who_made_a_response_goes_on_with_it_whatever_the_hash_says() -> None:
    for replica in FOUR:
        going_on = Conversation(maker=replica_mark(replica), key="any")
        assert Placing().ranked(going_on, FOUR)[0] == replica
    gone = Conversation(maker=replica_mark("replica 9"))
    assert set(Placing().ranked(gone, FOUR)) == set(FOUR)


@pytest.mark.parametrize("bound", [1.25, 2.0])
def test_the_load_is_bounded(bound: float) -> None:
    """If all requests are of one conversation, no replica has much more than its share of them."""
    placing, loads = Placing(bound), dict(FOUR)
    for n in range(1, 201):
        chosen = placing.ranked(keyed(1), loads)[0]
        placing.placed(keyed(1), chosen)
        loads[chosen] += 1
        assert max(loads.values()) <= bound * n / 4 + 1


def test_a_replica_with_room_is_not_left() -> None:
    placing, loads = Placing(room=4), dict(FOUR)
    home = placing.ranked(keyed(1), loads)[0]
    loads[home] = 3
    assert placing.ranked(keyed(1), loads)[0] == home
    loads[home] = 4
    assert placing.ranked(keyed(1), loads)[0] != home


def test_a_full_fleet_asks_the_least_loaded_first() -> None:
    ranked = Placing(bound=1.01).ranked(keyed(1), {"a": 9, "b": 0, "c": 8})
    assert ranked == ["b", "c", "a"]


def test_new_conversations_go_where_there_are_the_fewest() -> None:
    placing, homes = Placing(room=4), Counter[str]()
    for _ in range(40):
        home = placing.ranked(Conversation(), FOUR)[0]
        placing.placed(Conversation(), home)
        homes[home] += 1
    assert set(homes.values()) == {10}
    assert placing.ranked(Conversation(), {"replica 0": 2, "replica 1": 0})[0] == "replica 1"


def mixed(number: int) -> int:
    number = number * 0x9E3779B97F4A7C15 % 2**64
    return (number ^ number >> 32) * 0x9E3779B97F4A7C15 % 2**64


def plainly(placing: Placing, asked: Conversation, loads: dict[str, int]) -> list[str]:
    """The order as it is told in words: each rule sorts all replicas, and the last one counts most."""
    order = sorted(loads, key=lambda one: (placing._counts[one], one))
    if asked.key:
        order.sort(key=lambda one: mixed(_number(one) ^ _number(asked.key)))
    else:
        order.sort(key=lambda one: loads[one])
    order.sort(key=lambda one: one != placing._places.get(asked.key))
    order.sort(key=lambda one: not asked.maker or replica_mark(one) != asked.maker)
    most = max(placing._room, math.ceil(placing._bound * (sum(loads.values()) + 1) / len(loads)))
    full = [one for one in order if loads[one] >= most]
    return [one for one in order if loads[one] < most] + sorted(full, key=loads.__getitem__)


def test_the_best_few_are_those_of_the_whole_order() -> None:
    """Also with replicas that come and go, full ones, and conversations that moved."""
    chance = random.Random(5)
    placing = Placing(room=2)
    for turn in range(300):
        loads = {f"replica {i}": chance.choice((0, 0, 1, 2, 5)) for i in range(turn % 40, 60)}
        key = chance.choice(("", f"conversation {chance.randrange(40)}"))
        maker = chance.choice(("", replica_mark(f"replica {chance.randrange(70)}")))
        asked = Conversation(maker, key)
        whole = plainly(placing, asked, loads)
        assert placing.ranked(asked, loads) == whole
        n = chance.randrange(1, 70)
        assert placing.ranked(asked, loads, n) == whole[:n]
        placing.placed(asked, chance.choice(whole[:3]))


def test_ranking_a_large_fleet_is_quick() -> None:
    """It took 100 ms of the processor, as long as an answer's first token."""
    placing, loads = Placing(room=4), {f"replica {i}": i % 4 for i in range(10_000)}
    placing.ranked(keyed(0), loads, 8)
    asked = map(keyed, range(1, 6))
    assert idle_seconds(lambda: placing.ranked(next(asked), loads, 8)) < 0.05


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_bridge.serve.fleet.placing._REMEMBERS", 10)
    placing = Placing()
    for i in range(100):
        placing.placed(keyed(i), "replica 0")
    assert len(placing._places) == 10
    assert placing._counts["replica 0"] == 10
