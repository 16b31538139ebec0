"""What the remote backend adds to a server's own time, beside a bare HTTP client that sends the same requests.

The demo model's prompts and tokens cost next to nothing, so what is added shows: the dearest case. The bare client keeps its
connection, and is told what the remote backend finds out: the tokens of the prompt, and that the model is the same.
"""

from __future__ import annotations

import http.client
import json
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.models.source import open_model

from .inside import questions_of
from .measure import alternate, spread
from .report import Report, ms
from .servers import LLAMA, OURS, Server, has_llama_server

__all__ = ["measure_remote"]

_FIRST, _TOKEN = 5.0, 0.2  # ms
_TOKENS, _N_CTX = 64, 2048
_HELLO, _ASK = "Hello! My name is Zorblax, the {}th.", "What is my name, if I am the {}th?"
_WAYS = ("bare, streamed", "remote, streamed", "bare, whole", "remote, whole")


@dataclass(frozen=True, slots=True)
class _Turn:
    """Seconds to the first text of an answer, or to the end of one that comes whole, and for each token after that."""

    first: float
    token: float


_Talk = list[_Turn]
"""A first turn and the next one."""


def measure_remote(report: Report, *, n_threads: int, rounds: int) -> None:
    """A table for each server, and its bounds: at most 5 ms more to the first text, and 0.2 ms a token."""
    model = open_model("demo").path
    with LlamaBridge(model, backend="wasm", n_ctx=256) as llama:
        ends = llama.info.end_of_generation
    sampling = SamplingParams(
        temperature=0, seed=0, max_tokens=_TOKENS, logit_bias=dict.fromkeys(ends, float("-inf"))
    )
    for name in (LLAMA, OURS) if has_llama_server() else (OURS,):
        with Server(name, model, 1, _N_CTX, n_threads) as server:
            _measure(report, name, server.port, sampling, rounds)


def _measure(report: Report, name: str, port: int, sampling: SamplingParams, rounds: int) -> None:
    def opened() -> LlamaBridge:
        return LlamaBridge(f"http://127.0.0.1:{port}", backend="remote", sampling=sampling)

    numbers = {who: iter(range(1000 + i, 10_000, len(_WAYS))) for i, who in enumerate(_WAYS)}
    bare = _Bare(port)
    with (
        opened() as other,
        opened() as llama,
    ):  # the one that is measured has said none of it before

        def call(who: str) -> _Talk:
            """Each one says something else each time, so that nothing is evaluated already."""
            number, whole = next(numbers[who]), who.endswith("whole")
            if who.startswith("remote"):
                return _talk(llama, number, whole)
            questions = _asked(other, number)
            _talk(other, 0, whole=True)
            return bare.talk(questions, whole)

        for who in _WAYS:
            call(who)  # connections are made, code is loaded
        calls: dict[str, Callable[[], _Talk]] = {who: partial(call, who) for who in _WAYS}
        taken = alternate(calls, rounds, f"remote, {name}")
    bare.close()
    rows = []
    for how in ("streamed", "whole"):
        for turn, label in enumerate(("first turn", "next turn")):
            ours, theirs = (
                [talk[turn] for talk in taken[f"{who}, {how}"]] for who in ("remote", "bare")
            )
            first = spread([a.first - b.first for a, b in zip(ours, theirs, strict=True)])
            token = spread([a.token - b.token for a, b in zip(ours, theirs, strict=True)])
            times = [ms(spread([each.first for each in those])) for those in (theirs, ours)]
            rows.append(
                [
                    f"{label}, {how}",
                    *times,
                    ms(first),
                    "" if how == "whole" else _fine(token.median),
                ]
            )
            where = f"{label}, {how}, {name}"
            most = _FIRST / 1000 + (_TOKEN / 1000 * _TOKENS if how == "whole" else 0)
            what = "whole answer" if how == "whole" else "first text"
            report.bound(
                f"remote adds at most {1000 * most:g} ms to the {what} ({where})",
                first.median,
                first.median <= most,
                f"{1000 * first.median:.1f} ms",
            )
            if how == "streamed":
                report.bound(
                    f"remote adds at most {_TOKEN} ms a token ({where})",
                    token.median,
                    token.median <= _TOKEN / 1000,
                    f"{_fine(token.median)} ms",
                )
    report.table(
        f"Remote: {name}, answers of {_TOKENS} tokens, {rounds} rounds",
        ["", "bare client, ms", "remote, ms", "added", "added a token"],
        rows,
        "To the first text, or to the end of a whole answer. Medians and quartiles; differences within a round.",
    )


def _fine(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"


def _asked(llama: LlamaBridge, i: int) -> list[tuple[str, dict[str, Any]]]:
    """What the remote backend asks in a talk."""
    with questions_of(llama) as heard:
        _talk(llama, i, whole=False)
    return heard


def _talk(llama: LlamaBridge, i: int, whole: bool) -> _Talk:
    turns = []
    asks = (
        (llama.generate, llama.generate_stream),
        (llama.generate_continue, llama.generate_continue_stream),
    )
    for (ask, stream), text in zip(asks, (_HELLO, _ASK), strict=True):
        began = time.perf_counter()
        if whole:
            answer = ask(text.format(i))
            first = time.perf_counter()
        else:
            texts = stream(text.format(i))
            next(texts)
            first = time.perf_counter()
            answer = texts.result
        turns.append(_turn(began, first, answer.usage.completion_tokens))
    return turns


def _turn(began: float, first: float, tokens: int) -> _Turn:
    if tokens != _TOKENS:
        raise RuntimeError(f"an answer has {tokens} tokens")
    return _Turn(first - began, (time.perf_counter() - first) / (_TOKENS - 1))


class _Bare:
    """A client of the standard library, with one connection."""

    def __init__(self, port: int) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def talk(self, questions: list[tuple[str, dict[str, Any]]], whole: bool) -> _Talk:
        turns, id_ = [], ""
        for path, given in questions:
            body = {**given, "stream": not whole}
            if "previous_response_id" in body:
                body["previous_response_id"] = id_
            if self._link.sock and select.select([self._link.sock], [], [], 0.01)[0]:
                self._link.close()  # llama-server ends each stream with the end of its connection
            began = time.perf_counter()
            self._link.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = self._link.getresponse()
            if answer.status != 200:
                raise RuntimeError(answer.read()[:500])
            first, last = (
                (time.perf_counter(), json.loads(answer.read())) if whole else _read(answer)
            )
            if whole:
                first = time.perf_counter()
            id_, tokens = _end(last)
            turns.append(_turn(began, first, tokens))
        return turns


def _read(answer: http.client.HTTPResponse) -> tuple[float, Mapping[str, Any]]:
    """When the first text came, and the last event."""
    first, last = 0.0, {}
    while line := answer.readline():
        if line.startswith(b"data: {"):
            last = json.loads(line[6:])
            if not first and (last.get("content") or last.get("delta")):
                first = time.perf_counter()
    return first, last


def _end(last: Mapping[str, Any]) -> tuple[str, int]:
    """The answer's id, if it has one, and how many tokens it has."""
    if "tokens_predicted" in last:
        return "", last["tokens_predicted"]
    last = last.get("response", last)
    return last["id"], last["usage"]["output_tokens"]
