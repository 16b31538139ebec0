"""The cost of named sessions: a fork, and a background save while the next turn runs."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_bridge import LlamaBridge, ModelParams, SamplingParams, Session

from .contenders import text_of
from .measure import ratio, seconds, spread
from .report import Report, ms
from .turns import first_token

__all__ = ["measure_keeping"]

_ONE = SamplingParams(max_tokens=1, temperature=0)
_TURN = "and the river ran past a house where light was kept for all who came"


def measure_keeping(
    report: Report,
    model: Path,
    *,
    n_threads: int,
    rounds: int,
    history: int,
    folder: Path | None,
) -> None:
    """Native only. In one bridge, its own session is not kept in the folder, a named one is."""
    params = ModelParams(n_ctx=history + 64 + rounds * 80, n_threads=n_threads)
    with (
        TemporaryDirectory(dir=folder) as place,
        LlamaBridge(model, backend="native", params=params, sessions_dir=place) as llama,
        LlamaBridge(model, backend="native", params=params) as plain,
    ):
        text = text_of(history - 1, lambda text: len(llama.tokenize(text)))
        llama.generate(text, sampling=_ONE, chat=False)
        kept, apart = llama.session_fork("kept"), llama.session()
        with_save: list[float] = []
        without: list[float] = []
        for turn in range(rounds):
            print(f"keeping: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
            order = [(kept, with_save), (apart, without)]
            for session, times in order if turn % 2 else reversed(order):
                times.append(_second_turn(session))
                llama.sessions_flush()
        plain.generate(text, sampling=_ONE, chat=False)
        forks = [seconds(partial(plain.session_fork, f"branch {i}")) for i in range(rounds)]
    share = ratio(with_save, without)
    report.table(
        f"Named sessions at {history:,} tokens, {rounds} rounds",
        ["", "ms"],
        [
            ["first token of a turn, while the turn before is saved", ms(spread(with_save))],
            ["first token of a turn, without a save", ms(spread(without))],
            ["session_fork", ms(spread(forks))],
        ],
    )
    report.bound(
        "a save in the background slows the next first token by at most 5 %",
        share.median,
        share.median <= 1.05,
        f"{(share.median - 1) * 100:+.1f} % ({(share.low - 1) * 100:+.1f} to {(share.high - 1) * 100:+.1f})",
    )
    fork = spread(forks).median
    report.bound("a fork in at most 5 ms", fork, fork <= 0.005, f"{fork * 1e3:.2f} ms")


def _second_turn(session: Session) -> float:
    """Seconds to the first token of a turn right after another one."""
    session.generate_continue(_TURN, sampling=_ONE, chat=False)
    return first_token(partial(session.generate_continue_stream, _TURN, sampling=_ONE, chat=False))[
        0
    ]
