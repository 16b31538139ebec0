"""A fleet in one process, without Ray: an ingress, members, and somebody who ends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from llama_bridge.serve.fleet.asked import Asked
from llama_bridge.serve.fleet.ingress import Ingress, ReplicaLost
from llama_bridge.serve.fleet.member import Begun, Member
from llama_bridge.serve.fleet.placing import Placing
from llama_bridge.serve.fleet.settings import FleetSettings
from tests.serve.serving import Address, serving

__all__ = ["Fleet", "running"]


class Fleet:
    """An ASGI application.

    Attributes:
        asked: how often each member was asked.
        doomed: members that are lost after so many pieces of their next answer.
        at_work: answers in progress.
    """

    def __init__(self, settings: FleetSettings, n: int) -> None:
        self.members = {f"member {i}": Member(settings, f"member {i}") for i in range(n)}
        self.placing = Placing(settings.load_bound, settings.n_parallel)
        self.asked: Counter[str] = Counter()
        self.doomed: dict[str, int] = {}
        self.at_work: Counter[str] = Counter()
        self.ingress = Ingress(self.ask, settings.server)

    async def ask(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        loads = {name: self.at_work[name] for name in self.members}
        name = self.placing.ranked(asked.conversation, loads)[0]
        self.placing.placed(asked.conversation, name)
        self.asked[name] += 1
        self.at_work[name] += 1
        try:
            async with aclosing(self.members[name].answer(asked)) as pieces:
                async for piece in pieces:
                    if name in self.doomed:
                        self.doomed[name] -= 1
                        if self.doomed[name] < 0:
                            del self.members[name], self.doomed[name]
                            raise ReplicaLost(name)
                    yield piece
        finally:
            self.at_work[name] -= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.ingress(scope, receive, send)
            return
        members = list(self.members.values())
        await receive()
        for member in members:
            await member.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for member in members:
            await member.end()
        await send({"type": "lifespan.shutdown.complete"})


@contextmanager
def running(folder: Path, n: int, **settings: Any) -> Iterator[tuple[Fleet, Address]]:
    """Run a fleet of the demo model."""
    told = FleetSettings(store=str(folder / "store"), n_ctx=4096, n_threads=1, **settings)
    fleet = Fleet(told, n)
    with serving(fleet) as address:
        yield fleet, address
