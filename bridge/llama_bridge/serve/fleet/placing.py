"""Which replica of a fleet takes a request: the one that has the conversation's KV cache, as long as it is not overloaded."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..kept_responses import replica_mark

__all__ = ["Conversation", "Placing"]

_REMEMBERS = 100_000
"""Conversations whose places are remembered."""
_FEW = 16


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request says of its conversation.

    Attributes:
        maker: mark of the replica that has made the response it goes on from; empty if that is unknown.
        key: the same for all its requests, but not for another conversation; empty if it is new.
    """

    maker: str = ""
    key: str = ""


class Placing:
    """Ranks replicas for a request.

    A conversation stays with the replica that had it last. If nobody knows which one that was, all who ask rank the replicas
    by the same hash: when one comes or goes, only its own share of the conversations moves (rendezvous hashing, Thaler and
    Ravishankar 1998). A replica whose load is above a bound takes no more (Mirrokni, Thorup and Zadimoghaddam 2016).

    Args:
        bound: how much of the average load a replica may have; more than 1.
        room: a load that a replica may have in any case: what it computes at once.
    """

    def __init__(self, bound: float = 1.25, room: int = 1) -> None:
        self._bound = bound
        self._room = room
        self._places: OrderedDict[str, str] = OrderedDict()
        self._counts: Counter[str] = Counter()  # conversations by replica
        self._numbers: dict[str, int] = {}  # by replica, as the next
        self._marks: dict[str, str] = {}

    def ranked(
        self, conversation: Conversation, loads: Mapping[str, int], n: int | None = None
    ) -> list[str]:
        """The replicas, best first.

        Args:
            conversation: of the request.
            loads: requests that each replica has now, without this one.
            n: how many of them are wanted; None is all. Few are found faster than all are sorted.
        """
        n = len(loads) if n is None else n
        most = max(self._room, math.ceil(self._bound * (sum(loads.values()) + 1) / len(loads)))
        weights = self._weights(conversation, loads)
        free = [one for one, load in loads.items() if load < most]
        best = heapq.nsmallest(n, free, key=weights.__getitem__)
        if len(best) < n:
            full = [one for one, load in loads.items() if load >= most]
            left = n - len(best)
            best += heapq.nsmallest(left, full, key=lambda one: (loads[one], weights[one]))
        return best

    def _weights(self, conversation: Conversation, loads: Mapping[str, int]) -> dict[str, Any]:
        """How little of the conversation each replica has. This is done for all of them and each request: hashes are kept."""
        numbers, marks = self._numbers, self._marks
        if len(numbers) > 2 * len(loads) + _FEW:  # of those that are gone
            numbers.clear()
            marks.clear()
        for one in loads.keys() - numbers.keys():
            numbers[one], marks[one] = _number(one), replica_mark(one)
        weights: dict[str, Any]
        made_it: Any = -2
        if key := conversation.key:
            number = _number(key)
            weights = {
                one: (x ^ x >> 32) * _MIX & _BITS  # a call for each would take as long again
                for one in loads
                for x in [(numbers[one] ^ number) * _MIX & _BITS]
            }
            if (place := self._places.get(key)) in weights:
                weights[place] = -1
        else:
            weights = {one: (load, self._counts[one], one) for one, load in loads.items()}
            made_it = (-2, 0, "")
        if conversation.maker:
            weights |= {one: made_it for one in loads if marks[one] == conversation.maker}
        return weights

    def placed(self, conversation: Conversation, replica: str) -> None:
        """A replica has taken the request."""
        if not conversation.key:
            if not conversation.maker:
                self._counts[replica] += 1
            return
        before = self._places.pop(conversation.key, None)
        self._places[conversation.key] = replica
        if before is not None:
            self._counts[before] -= 1
        self._counts[replica] += 1
        if len(self._places) > _REMEMBERS:
            _, gone = self._places.popitem(last=False)
            self._counts[gone] -= 1


_MIX = 0x9E3779B97F4A7C15  # Knuth's multiplier, 2**64 over the golden ratio
_BITS = (1 << 64) - 1


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
