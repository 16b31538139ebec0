"""A fleet: what it costs a conversation to move to another replica, and how often a replica has what it needs.

Replicas are members of a fleet without Ray between them: Ray Serve adds some milliseconds to each request. Its own routing is taken
from its documentation: of two replicas at random, the one with less to do ("power of two choices").
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llama_bridge.serve.fleet.asked import Asked
from llama_bridge.serve.fleet.member import Begun, Member
from llama_bridge.serve.fleet.placing import Conversation, Placing
from llama_bridge.serve.fleet.settings import FleetSettings

from .measure import ratio, spread
from .report import Report, ms, times

__all__ = ["measure_fleet"]

_SHORT = {"format": {"type": "json_schema", "name": "one", "schema": {"const": 1}}}
"""An answer that is one token, and the same token when it is read again."""

_FASTER = 20
_REPLICAS, _AT_ONCE = 4, 8

Choose = Callable[[Conversation, Mapping[str, int]], str]


def measure_fleet(
    report: Report,
    model: str,
    label: str,
    *,
    n_threads: int,
    rounds: int,
    history: int,
    turns: int,
    conversations: int,
) -> None:
    """A table for moves, one for routing; a move must be 20 times faster to the first token than evaluating again."""
    asyncio.run(_moves(report, model, label, n_threads, rounds, history))
    asyncio.run(_routing(report, n_threads, turns, conversations))


def _settings(folder: str, **more: Any) -> FleetSettings:
    return FleetSettings(store=f"{folder}/store", backend="native", **more)


def _asked(path: str, body: Mapping[str, Any]) -> Asked:
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    return Asked.of(scope, json.dumps(body).encode())


async def _post(member: Member, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    parts = [part async for part in member.answer(_asked(path, body))]
    answer: dict[str, Any] = json.loads(b"".join(p for p in parts if not isinstance(p, Begun)))
    if "usage" not in answer:
        raise RuntimeError(f"a request was refused: {answer}")
    return answer


# a move


async def _moves(
    report: Report, model: str, label: str, n_threads: int, rounds: int, history: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = {"model": model, "n_threads": n_threads, "n_parallel": 2, "n_ctx": 4 * history}
        members = [Member(_settings(folder, **more), f"member {i}") for i in range(3)]
        for member in members:
            await member.begin()
        taken: dict[str, list[float]] = {"stays": [], "moves": [], "is evaluated again": []}
        tokens = [0, 0]
        try:
            for i in range(rounds):
                first = await _begin(members[0], i, history)
                file = Path(folder, "store", first["id"][13:15], f"{first['id']}.session")
                while not file.exists():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                for name, member in zip(("stays", "moves"), members, strict=False):
                    taken[name].append(await _next(member, first, tokens))
                    if tokens[1] < 0.95 * first["usage"]["total_tokens"]:
                        raise RuntimeError(f"only {tokens[1]} tokens came from the cache")
                file.unlink()
                taken["is evaluated again"].append(await _next(members[2], first, tokens))
        finally:
            for member in members:
                await member.end()
    report.table(
        f"Moves between replicas, {label}, a conversation of {tokens[0]:,} tokens, {rounds} rounds",
        ["", "ms to the answer's first token"],
        [[name, ms(spread(each))] for name, each in taken.items()],
        "It moves by its session file, from a folder in the page cache. Medians and quartiles.",
    )
    faster = ratio(taken["is evaluated again"], taken["moves"])
    promise = f"a move is at least {_FASTER} times faster than evaluating again"
    report.bound(promise, faster.median, faster.median >= _FASTER, times(faster))


async def _begin(member: Member, i: int, history: int) -> dict[str, Any]:
    """A conversation of so many tokens. Each begins differently."""
    chosen = random.Random(i)
    said = [f"{i}"]
    words = ("the", "cat", "sat", "on", "a", "mat", "and", "dog")
    said += [chosen.choice(words) for _ in range(history)]
    body = {"input": " ".join(said), "max_output_tokens": 4, "text": _SHORT}
    return await _post(member, "/v1/responses", body)


async def _next(member: Member, first: Mapping[str, Any], tokens: list[int]) -> float:
    """Seconds to the first token of the next turn. Sets the tokens of its prompt, and how many were in the KV cache."""
    body = {
        "input": "go on",
        "max_output_tokens": 4,
        "text": _SHORT,
        "previous_response_id": first["id"],
        "stream": True,
    }
    began = time.perf_counter()
    took = 0.0
    written = b""
    async for part in member.answer(_asked("/v1/responses", body)):
        if not isinstance(part, Begun):
            written += part
            if not took and b"response.output_text.delta" in part:
                took = time.perf_counter() - began
    last = json.loads(written.rpartition(b"data: ")[2])
    if not took or last["type"] != "response.completed":
        raise RuntimeError(f"a request was refused: {last}")
    usage = last["response"]["usage"]
    tokens[:] = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
    return took


# routing


async def _routing(report: Report, n_threads: int, turns: int, conversations: int) -> None:
    chosen = random.Random(7)
    placing = Placing(room=conversations // _REPLICAS)

    def ours(conversation: Conversation, loads: Mapping[str, int]) -> str:
        name = placing.ranked(conversation, loads)[0]
        placing.placed(conversation, name)
        return name

    def two_choices(conversation: Conversation, loads: Mapping[str, int]) -> str:
        return min(chosen.sample(sorted(loads), 2), key=loads.__getitem__)

    def at_random(conversation: Conversation, loads: Mapping[str, int]) -> str:
        return chosen.choice(sorted(loads))

    rows: list[list[str]] = []
    ways: dict[str, Choose] = {
        "by conversation (ours)": ours,
        "power of two choices (Ray's default)": two_choices,
        "at random": at_random,
    }
    for name, choose in ways.items():
        cached, asked = await _talk(choose, n_threads, turns, conversations)
        rows.append([name, f"{100 * cached / asked:.1f} %"])
    report.table(
        f"Routing, what the chosen replica has of the past: {_REPLICAS} replicas, {conversations} conversations, "
        f"{turns} turns, {_AT_ONCE} requests at once",
        ["routing", "cached tokens"],
        rows,
        "Chats with the demo model; a replica's KV cache has room for a quarter of the conversations. Tokens of first turns do not count.",
    )


async def _talk(choose: Choose, n_threads: int, turns: int, conversations: int) -> tuple[int, int]:
    """Hold all conversations; returns the tokens of the past that were cached, and all of them."""
    with tempfile.TemporaryDirectory() as folder:
        room = conversations // _REPLICAS
        more = {
            "n_threads": n_threads,
            "n_parallel": room,
            "n_ctx": room * 1024,
            "max_requests": 256,
        }
        members = {f"m{i}": Member(_settings(folder, **more), f"m{i}") for i in range(_REPLICAS)}
        for member in members.values():
            await member.begin()
        loads = dict.fromkeys(members, 0)
        chats: list[list[dict[str, Any]]] = [[] for _ in range(conversations)]
        past = [0] * conversations
        found, at_once = [0, 0], asyncio.Semaphore(_AT_ONCE)

        async def say(i: int, turn: int) -> None:
            async with at_once:
                said = f"Hello! My name is Zorblax{i}." if turn == 0 else "What is my name?"
                chats[i].append({"role": "user", "content": said})
                name = choose(Conversation(key=f"conversation {i}"), loads)
                loads[name] += 1
                body = {"messages": chats[i], "max_tokens": 24}
                answer = await _post(members[name], "/v1/chat/completions", body)
                loads[name] -= 1
                chats[i].append(
                    {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
                )
                usage = answer["usage"]
                if turn:
                    found[0] += min(usage["prompt_tokens_details"]["cached_tokens"], past[i])
                    found[1] += past[i]
                past[i] = usage["total_tokens"]

        try:
            order = list(range(conversations))
            for turn in range(turns):
                random.Random(turn).shuffle(order)
                await asyncio.gather(*(say(i, turn) for i in order))
        finally:
            for member in members.values():
                await member.end()
    return found[0], found[1]
