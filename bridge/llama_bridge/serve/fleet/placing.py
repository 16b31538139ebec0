"""Which replica of a fleet takes a request: the one that has the conversation's KV cache, as long as it is not overloaded."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from ..kept_responses import replica_mark

__all__ = ["Conversation", "Placing"]

_REMEMBERS = 100_000
"""Conversations whose places are remembered."""


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

    def ranked(self, conversation: Conversation, loads: Mapping[str, int]) -> list[str]:
        """All replicas, best first.

        Args:
            conversation: of the request.
            loads: requests that each replica has now, without this one.
        """
        most = max(self._room, math.ceil(self._bound * (sum(loads.values()) + 1) / len(loads)))
        order = self._wanted(conversation, loads)
        free = [one for one in order if loads[one] < most]
        return free + sorted((one for one in order if loads[one] >= most), key=loads.__getitem__)

    def _wanted(self, conversation: Conversation, loads: Mapping[str, int]) -> list[str]:
        """All replicas by how much of the conversation they have."""
        key = conversation.key
        if key:
            order = sorted(loads, key=lambda one: _weight(key, one), reverse=True)
        else:
            order = sorted(loads, key=lambda one: (loads[one], self._counts[one], one))
        place = self._places.get(key)
        return sorted(  # stable
            order, key=lambda one: (replica_mark(one) != conversation.maker, one != place)
        )

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


def _weight(key: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{replica}".encode(), digest_size=8).digest()
