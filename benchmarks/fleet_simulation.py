"""A fleet of thousands of replicas, simulated: how often a replica has a conversation's past, and what that does to the first token.

Nothing waits here: events are taken from a heap in the order of their times. What a token costs is measured elsewhere
(:class:`Costs`). The simplifications:

- A replica computes up to ``room`` answers at once, each at an equal share; the others wait in their order.
- Its KV cache keeps whole conversations, and the least recently used one goes first. One that begins like another, with the
  system prompt of the same app, shares that beginning.
- Routing by session keeps the rule of :class:`~llama_bridge.serve.fleet.placing.Placing`: a conversation stays where it was as
  long as that replica is not above the bound. Otherwise it goes on along an order of its own, which a hash of it gives.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

__all__ = ["ROUTINGS", "Costs", "Fleet", "Result", "Talk", "simulate"]


@dataclass(frozen=True)
class Costs:
    """Seconds of a replica's processor for one token. The defaults are measured: docs/fleet.md and docs/performance.md.

    Attributes:
        read: to evaluate it.
        restore: to take its KV cache from the store; None if there is no store, so it is evaluated again.
        write: to draw it in an answer, with four answers at once.
    """

    read: float = 26.8 / 2070
    restore: float | None = None
    write: float = 1 / 32.4


@dataclass(frozen=True)
class Fleet:
    """So many replicas.

    Attributes:
        replicas: how many.
        room: answers that each computes at once.
        cells: tokens whose KV cache each has: 16,384 in use, and 256 MB of 12 KiB each at rest.
        bound: how much of the average load a replica may have before conversations move.
    """

    replicas: int
    room: int = 4
    cells: int = 16_384 + 21_800
    bound: float = 1.25


@dataclass(frozen=True)
class Talk:
    """How people talk.

    Attributes:
        starts: conversations that begin in a second.
        turns: of each conversation.
        think: mean seconds between an answer and the next question, exponentially distributed.
        asked, answered: tokens of a question and of an answer.
        apps: different system prompts. The n-th most common one is used 1/n as often as the first.
        system: tokens of a system prompt.
    """

    starts: float
    turns: int = 5
    think: float = 60.0
    asked: int = 64
    answered: int = 100
    apps: int = 1000
    system: int = 400


@dataclass(slots=True)
class Result:
    """What was seen after the warm-up.

    Attributes:
        first_token: seconds from each question to the first token of its answer.
        whole: seconds from each question to the last one.
        past, cached: tokens of the past of all questions but a conversation's first, and how many of them the replica had.
        questions: how many were asked.
        work: seconds of processor time that they need.
        present: requests in the fleet, on average over time.
        seconds: how long was watched.
    """

    first_token: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    past: int = 0
    cached: int = 0
    questions: int = 0
    work: float = 0.0
    present: float = 0.0
    seconds: float = 0.0

    @property
    def hit_share(self) -> float:
        """How much of the past was in the KV cache of the replica that was asked."""
        return self.cached / self.past if self.past else 0.0


@dataclass(slots=True, eq=False)
class _Chat:
    number: int
    app: int
    past: int  # tokens
    turn: int = 0
    place: int = -1


@dataclass(slots=True, eq=False)
class _Job:
    chat: _Chat
    asked: float
    counts: bool
    left: float = 0.0
    reads: bool = True


class _Replica:
    def __init__(self, cells: int) -> None:
        self.cells, self.used = cells, 0
        self.cached: OrderedDict[int, tuple[int, int]] = OrderedDict()  # tokens and app, by chat
        self.apps: Counter[int] = Counter()
        self.active: list[_Job] = []
        self.waiting: deque[_Job] = deque()
        self.at = 0.0
        self.version = 0

    def known(self, chat: _Chat, system: int) -> int:
        """Tokens of a conversation's past that are in the KV cache."""
        if chat.number in self.cached:
            return self.cached[chat.number][0]
        return system if self.apps[chat.app] else 0

    def keep(self, chat: _Chat) -> None:
        """The conversation is in the KV cache now, and the least recently used ones leave it."""
        self._drop(chat.number)
        self.cached[chat.number] = chat.past, chat.app
        self.used += chat.past
        self.apps[chat.app] += 1
        while self.used > self.cells:
            self._drop(next(iter(self.cached)))

    def _drop(self, number: int) -> None:
        tokens, app = self.cached.pop(number, (0, -1))
        if tokens:
            self.used -= tokens
            self.apps[app] -= 1

    def advance(self, now: float) -> None:
        """Compute until now."""
        if self.active:
            share = (now - self.at) / len(self.active)
            for job in self.active:
                job.left -= share
        self.at = now

    def next(self) -> float:
        """When a job has done what is left; it is the one with the least."""
        return self.at + max(0.0, min(job.left for job in self.active)) * len(self.active)


Loads = Sequence[int]
Choose = Callable[[_Chat, Loads, int], int]
"""From the conversation, the load of each replica and their sum to the replica that is asked."""


def _by_load(fleet: Fleet, chosen: random.Random) -> Choose:
    def choose(_chat: _Chat, loads: Loads, _total: int) -> int:
        one, other = chosen.randrange(fleet.replicas), chosen.randrange(fleet.replicas)
        return one if loads[one] <= loads[other] else other

    return choose


def _at_random(fleet: Fleet, chosen: random.Random) -> Choose:
    return lambda _chat, _loads, _total: chosen.randrange(fleet.replicas)


def _by_session(fleet: Fleet, _chosen: random.Random) -> Choose:
    def choose(chat: _Chat, loads: Loads, total: int) -> int:
        if chat.place >= 0 and loads[chat.place] < _most(fleet, total):
            return chat.place
        return _first_free(fleet, chat.number, loads, total)

    return choose


def _by_prefix(fleet: Fleet, _chosen: random.Random) -> Choose:
    return lambda chat, loads, total: _first_free(fleet, -1 - chat.app, loads, total)


def _most(fleet: Fleet, total: int) -> int:
    return max(fleet.room, math.ceil(fleet.bound * (total + 1) / fleet.replicas))


def _first_free(fleet: Fleet, key: int, loads: Loads, total: int) -> int:
    """The first replica below the bound in this key's own order of them all. Some is: not all can be above the average."""
    n, most = fleet.replicas, _most(fleet, total)
    hashed = random.Random(key)
    at, step = hashed.randrange(n), hashed.randrange(1, n) if n > 1 else 1
    while math.gcd(step, n) > 1:
        step += 1
    while loads[at] >= most:
        at = (at + step) % n
    return at


ROUTINGS: dict[str, Callable[[Fleet, random.Random], Choose]] = {
    "by session (ours)": _by_session,
    "by prefix": _by_prefix,
    "by load (the less busy of two)": _by_load,
    "at random": _at_random,
}


def simulate(
    routing: str,
    fleet: Fleet,
    talk: Talk,
    costs: Costs,
    *,
    seconds: float,
    warm: float,
    seed: int = 0,
) -> Result:
    """Watch a fleet for so many seconds, after some that do not count. The same seed gives the same result."""
    return _Run(routing, fleet, talk, costs, warm, warm + seconds, seed).result


class _Run:
    def __init__(
        self,
        routing: str,
        fleet: Fleet,
        talk: Talk,
        costs: Costs,
        warm: float,
        end: float,
        seed: int,
    ) -> None:
        self.fleet, self.talk, self.costs = fleet, talk, costs
        self.warm, self.end, self.now = warm, end, 0.0
        self.chosen = random.Random(seed)
        self.choose = ROUTINGS[routing](fleet, random.Random(seed + 1))
        self.replicas = [_Replica(fleet.cells) for _ in range(fleet.replicas)]
        self.loads = [0] * fleet.replicas
        self.total = 0
        self.apps = range(talk.apps)
        self.common = [*accumulate(1 / n for n in range(1, talk.apps + 1))]
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = 0
        self.result = Result(seconds=end - warm)
        self.chats = 0
        self._at(0.0, self._begin)
        while self.events and self.events[0][0] < end:
            time, _, event = heapq.heappop(self.events)
            self._pass_to(time)
            event()
        self._pass_to(end)
        self.result.present /= end - warm

    def _at(self, time: float, event: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, event))

    def _pass_to(self, time: float) -> None:
        watched = time - max(self.now, self.warm)
        if watched > 0:
            self.result.present += watched * self.total
        self.now = time

    def _begin(self) -> None:
        (app,) = self.chosen.choices(self.apps, cum_weights=self.common)
        self.chats += 1
        self._ask(_Chat(self.chats, app, self.talk.system))
        self._at(self.now + self.chosen.expovariate(self.talk.starts), self._begin)

    def _ask(self, chat: _Chat) -> None:
        at = self.choose(chat, self.loads, self.total)
        chat.place = at
        self.loads[at] += 1
        self.total += 1
        replica = self.replicas[at]
        replica.advance(self.now)
        replica.waiting.append(_Job(chat, self.now, counts=self.now >= self.warm))
        self._fill(at)

    def _fill(self, at: int) -> None:
        """Start what has room, and see when the next one is done."""
        replica = self.replicas[at]
        while replica.waiting and len(replica.active) < self.fleet.room:
            job = replica.waiting.popleft()
            job.left = self._to_first_token(job, replica)
            replica.active.append(job)
        replica.version += 1
        if replica.active:
            version = replica.version
            self._at(replica.next(), lambda: self._done(at, version))

    def _to_first_token(self, job: _Job, replica: _Replica) -> float:
        chat, costs = job.chat, self.costs
        known = replica.known(chat, self.talk.system)
        again = costs.read if costs.restore is None or not chat.turn else costs.restore
        work = (chat.past - known) * again + self.talk.asked * costs.read + costs.write
        if job.counts:
            self.result.questions += 1
            self.result.work += work + (self.talk.answered - 1) * costs.write
            if chat.turn:
                self.result.past += chat.past
                self.result.cached += known
        return work

    def _done(self, at: int, version: int) -> None:
        replica = self.replicas[at]
        if version != replica.version:
            return  # something came in between
        replica.advance(self.now)
        job = min(replica.active, key=lambda one: one.left)
        if job.reads:
            job.reads, job.left = False, (self.talk.answered - 1) * self.costs.write
            if job.counts:
                self.result.first_token.append(self.now - job.asked)
        else:
            replica.active.remove(job)
            self.loads[at] -= 1
            self.total -= 1
            if job.counts:
                self.result.whole.append(self.now - job.asked)
            self._answered(job.chat, replica)
        self._fill(at)

    def _answered(self, chat: _Chat, replica: _Replica) -> None:
        chat.past += self.talk.asked + self.talk.answered
        chat.turn += 1
        replica.keep(chat)
        if chat.turn < self.talk.turns:
            pause = self.chosen.expovariate(1 / self.talk.think) if self.talk.think else 0.0
            self._at(self.now + pause, lambda: self._ask(chat))
