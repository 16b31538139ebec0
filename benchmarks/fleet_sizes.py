"""What a fleet for many people takes: sizes and rates by arithmetic, from what a replica was measured to need and a simulation.

Measured here besides: what an ingress needs to rank replicas, and to remember where a conversation is.
"""

from __future__ import annotations

import math
import statistics
import time
import tracemalloc
from dataclasses import dataclass

from llama_bridge.serve.fleet.placing import Conversation, Placing

from .fleet_simulation import ROUTINGS, Costs, Fleet, Result, Talk, simulate
from .report import Report

__all__ = ["CELL", "Sizes", "measure_fleet_simulation", "sizes"]

CELL = 2 * 24 * 128 * 2
"""Bytes of KV cache for a token of Qwen2-0.5B: K and V, 24 layers, 2 heads of 64 values, f16."""

_BUSY = 0.6
"""How much of its time a replica may compute, so that few wait."""

_PER_REPLICA = 0.05
"""Questions a second in the simulation: so few that every routing keeps up."""

_RESTORE = (0.76 - 0.52) / 2070
"""Seconds to take a token's KV cache from the store: docs/fleet.md, a move less a stay."""

_USERS = (100, 10_000, 1_000_000)


@dataclass(frozen=True)
class Sizes:
    """What so many people at once need.

    Attributes:
        questions: a second.
        replicas: so many.
        tokens: written in answers, a second.
        kept: bytes of all conversations' KV caches.
        stored: bytes that go to the store in a second: after each answer, all of its conversation's KV cache.
        restored: bytes that come from the store in a second.
        restores: conversations that come from it in a second.
    """

    questions: float
    replicas: int
    tokens: float
    kept: float
    stored: float
    restored: float
    restores: float


def sizes(users: int, talk: Talk, seen: Result) -> Sizes:
    """Sizes and rates, from what was seen of a fleet whose people talk like this.

    Somebody asks once in the time to think plus the time of an answer (Little's law).
    """
    answer = statistics.fmean(seen.whole)
    questions = users / (talk.think + answer)
    grows = talk.asked + talk.answered
    at_end = talk.system + grows * (talk.turns + 1) / 2  # tokens after an answer, on average
    missing = (seen.past - seen.cached) / seen.questions
    return Sizes(
        questions=questions,
        replicas=math.ceil(questions * seen.work / seen.questions / _BUSY),
        tokens=questions * talk.answered,
        kept=users * at_end * CELL,
        stored=questions * at_end * CELL,
        restored=questions * missing * CELL,
        restores=questions * (1 - 1 / talk.turns) * (1 - seen.hit_share),
    )


def measure_fleet_simulation(report: Report, *, quick: bool) -> None:
    """A table for routings, one for sizes, and one for what an ingress needs."""
    replicas = 50 if quick else 2000
    fleet, talk = Fleet(replicas), Talk(starts=replicas * _PER_REPLICA / Talk(1).turns)
    seen = {
        (name, stored): simulate(
            name,
            fleet,
            talk,
            Costs(restore=_RESTORE if stored else None),
            seconds=100,
            warm=300,
        )
        for name in ROUTINGS
        for stored in (False, True)
    }
    _routings(report, fleet, seen)
    _sizes(report, talk, seen)
    _ingress(report, (10, 100) if quick else (10, 100, 1000, 10_000))


def _routings(report: Report, fleet: Fleet, seen: dict[tuple[str, bool], Result]) -> None:
    rows: list[list[str]] = []
    for (name, stored), result in seen.items():
        cuts = statistics.quantiles(result.first_token, n=20)
        rows.append(
            [
                name,
                "the store" if stored else "evaluated again",
                f"{100 * result.hit_share:.1f} %",
                f"{cuts[9]:.2f}",
                f"{cuts[18]:.2f}",
                f"{result.work / result.questions:.2f}",
            ]
        )
    report.table(
        f"Routing, simulated: {fleet.replicas:,} replicas, {_PER_REPLICA} questions a second for each",
        [
            "routing",
            "what is missing",
            "past in the cache",
            "s to first token",
            "of 95 %",
            "work, s",
        ],
        rows,
        "Five turns; a system prompt of 400 tokens, one of 1,000; 64 tokens asked, 100 answered; 60 s to think. Medians.",
    )


def _sizes(report: Report, talk: Talk, seen: dict[tuple[str, bool], Result]) -> None:
    by_session, _, by_load, _ = (seen[name, True] for name in ROUTINGS)
    here = [sizes(users, talk, by_session) for users in _USERS]
    there = [sizes(users, talk, by_load) for users in _USERS]
    rows = [
        ["questions a second", *(f"{one.questions:,.1f}" for one in here)],
        ["replicas of one thread, 60 % busy", *(f"{one.replicas:,}" for one in here)],
        ["tokens a second, each an event", *(f"{one.tokens:,.0f}" for one in here)],
        ["KV cache of all conversations", *(_bytes(one.kept) for one in here)],
        ["to the store, a second", *(_bytes(one.stored) for one in here)],
        ["from the store, a second, by session", *(_bytes(one.restored) for one in here)],
        ["the same by load", *(_bytes(one.restored) for one in there)],
        ["restores a second, by session", *(f"{one.restores:,.2f}" for one in here)],
        ["the same by load", *(f"{one.restores:,.1f}" for one in there)],
    ]
    columns = ["people who talk at once", *(f"{users:,}" for users in _USERS)]
    report.table("Sizes of a fleet, computed", columns, rows, "From the simulation above.")


def _ingress(report: Report, fleets: tuple[int, ...]) -> None:
    rows = [
        [f"{n:,}", f"{1e3 * (each := ranking_seconds(n)):.3f}", f"{1 / each:,.0f}"] for n in fleets
    ]
    report.table(
        "What an ingress needs to rank the replicas for a request",
        ["replicas", "ms", "requests a second of one core"],
        rows,
        f"It remembers where a conversation is in {place_bytes():,.0f} bytes.",
    )


def ranking_seconds(replicas: int) -> float:
    """Processor time to rank so many replicas once."""
    placing = Placing(room=4)
    loads = {f"replica {i}": i % 4 for i in range(replicas)}
    times = max(3, 2000 // replicas)
    clock = time.process_time()
    for i in range(times):
        placing.ranked(Conversation(key=f"conversation {i}"), loads, 8)
    return (time.process_time() - clock) / times


def place_bytes(conversations: int = 10_000) -> float:
    """Memory of an ingress for one conversation's place."""
    placing = Placing()
    tracemalloc.start()
    for i in range(conversations):
        placing.placed(Conversation(key=f"{i:032x}"), f"replica {i % 8}")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / conversations


def _bytes(n: float) -> str:
    power = min(4, int(math.log10(max(1.0, n)) // 3))
    return f"{n / 1000**power:.3g} {('B', 'KB', 'MB', 'GB', 'TB')[power]}"
