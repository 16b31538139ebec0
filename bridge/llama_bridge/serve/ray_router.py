"""Ray Serve's request router of a fleet. Each ingress has one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from .fleet.asked import Asked
from .fleet.placing import Conversation, Placing

__all__ = ["ConversationRouter"]

_RANKS = 8


class ConversationRouter(RequestRouter):
    """Gives a request to the replica that has its conversation's KV cache, as :class:`Placing` ranks them."""

    _placing: Placing
    _loads: Counter[ReplicaID]

    def initialize_state(self, **kwargs: Any) -> None:
        """Take the arguments of the configuration: those of :class:`Placing`."""
        self._placing = Placing(**kwargs)
        self._loads = Counter()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Some replicas, each a rank of its own, best first. If none of them takes the request, Ray asks again."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        loads = {name: self._load(one.replica_id) for name, one in replicas.items()}
        ranked = (
            self._placing.ranked(_conversation(pending_request), loads, _RANKS) if loads else []
        )
        return [[replicas[name]] for name in ranked]

    def _load(self, replica: ReplicaID) -> int:
        """Requests that a replica has: ours, or what it has said of all, whichever is more."""
        return max(self._loads[replica], self.replica_queue_len_cache.get(replica) or 0)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
    ) -> None:
        """A replica has taken a request."""
        self._loads[replica_id] += 1
        self._placing.placed(_conversation(pending_request), replica_id.unique_id)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """An answer has ended."""
        self._loads[replica_id] -= 1
        if self._loads[replica_id] <= 0:
            del self._loads[replica_id]


def _conversation(request: PendingRequest | None) -> Conversation:
    asked = request.args[0] if request is not None and request.args else None
    return asked.conversation if isinstance(asked, Asked) else Conversation()
