"""Time to first token: a chat's next turn, continued in the KV cache, against a fresh prompt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from llama_bridge import Capability, LlamaBridge, ModelParams, SamplingParams, TextStream
from llama_bridge.request import Request

from .contenders import text_of
from .inside import active_of
from .measure import spread
from .report import Report, ms

__all__ = ["first_token", "measure_turns"]

_ONE = SamplingParams(max_tokens=1, temperature=0)
_TURNS_PER_ROUND = 3


def measure_turns(
    report: Report,
    model: Path,
    backend: str,
    *,
    n_threads: int,
    rounds: int,
    histories: list[int],
    n_turn: int = 16,
    judged: int = 2048,
) -> None:
    """One row per length of history; the bound is on the ``judged`` one."""
    room = rounds * _TURNS_PER_ROUND * (n_turn + 2) + 64
    params = ModelParams(n_ctx=max(histories) + room, n_threads=n_threads)
    with LlamaBridge(model, backend=backend, params=params) as llama:
        if Capability.KV_CONTINUATION not in llama.capabilities:
            print(
                f"{backend}: no kv_continuation, so the next turn is a fresh prompt\n", flush=True
            )
            return
        chat = Capability.CHAT_TEMPLATE in llama.capabilities
        rows = []
        for history in histories:
            fresh, continued, evaluated = _race(llama, history, n_turn, rounds, chat)
            first, next_ = spread(fresh), spread(continued)
            share = next_.median / first.median
            rows.append(
                [f"{history:,}", ms(first), ms(next_), str(evaluated), f"{share * 100:.2f} %"]
            )
            if history == judged:
                report.bound(
                    f"a turn of {n_turn} tokens at {history:,} of history in at most 3 % of the prefill",
                    share,
                    share <= 0.03,
                    f"{share * 100:.2f} %",
                )
    report.table(
        f"Time to first token, {backend}, {'chat turns' if chat else 'raw text'}, {rounds} rounds",
        ["history", "fresh, ms", "continued, ms", "new tokens", "share"],
        rows,
        f"Each fresh prompt is followed by {_TURNS_PER_ROUND} turns, so that the history grows a little.",
    )


def _race(
    llama: LlamaBridge, history: int, n_turn: int, rounds: int, chat: bool
) -> tuple[list[float], list[float], int]:
    session = active_of(llama)  # to size the prompts, without a generation
    # One token of the history is the answer to its prompt.
    long = text_of(
        history - 1, lambda text: len(session.plan(Request(text or ".", chat=chat)).tokens)
    )
    fresh: list[float] = []
    continued: list[float] = []
    short = ""
    evaluated = 0
    for turn in range(rounds):
        print(f"turns, {history}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        llama.session_reset()  # or the prompt would still be in the KV cache
        fresh.append(first_token(partial(llama.generate_stream, long, sampling=_ONE, chat=chat))[0])
        short = short or text_of(
            n_turn,
            lambda text: len(session.plan(Request(text or ".", chat=chat, continues=True)).tokens),
        )
        for _ in range(_TURNS_PER_ROUND):
            found, evaluated = first_token(
                partial(llama.generate_continue_stream, short, sampling=_ONE, chat=chat)
            )
            continued.append(found)
    return fresh, continued, evaluated


def first_token(start: Callable[[], TextStream]) -> tuple[float, int]:
    """Seconds to the first text, or to the end if a token holds only part of a character.

    Also the number of evaluated tokens. The stream is read to its end, but that is not timed.
    """
    clock = time.perf_counter()
    stream = start()
    next(stream, None)
    found = time.perf_counter() - clock
    return found, stream.result.usage.evaluated_tokens
