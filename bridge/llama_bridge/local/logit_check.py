"""Checks whether a restored KV cache fits its tokens, by comparing its logits with those of a fresh evaluation.

A fresh evaluation never gives exactly the same numbers: the batch size decides the order of sums, and quantised
weights amplify a difference in the last bit. So the tokens are evaluated twice, once all at once and once as they
came about (prompts whole, answers token by token). The difference between these two shows what is normal for this
model, context and conversation.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Generator, Sequence

from ..errors import ContextOverflow, EngineError, SessionCancelled
from ..progress import OnProgress
from ..snapshot import Snapshot
from ..verification import LogitCheck
from .active import Active

__all__ = ["compare_logits"]

_PROBES = 8
_PIECE = 16
# Measured on all kinds of memory: correct files stay below 1.6 times the normal difference; another machine's
# kernels differ by about the normal difference.
_FACTOR = 4.0
_FLOOR = 0.01
# With some types the two evaluations agree exactly, which says nothing about another machine.
_EXACT, _EXACT_LIMIT = 1e-6, 0.1


def compare_logits(
    active: Active, snapshot: Snapshot, on_progress: OnProgress | None
) -> LogitCheck:
    """Compare the session's KV cache, restored from a snapshot, with fresh evaluations of its tokens.

    Leaves the conversation empty.

    Raises:
        ContextOverflow: there is no room for one more token.
        SessionCancelled, EngineError.
    """
    engine, tokens = active.engine, snapshot.tokens
    n_probes = min(_PROBES, engine.info.n_ctx - len(tokens))
    if n_probes < 1:
        raise ContextOverflow(len(tokens) + 1, engine.info.n_ctx)
    start = time.perf_counter()
    # Tokens from all over the conversation, because the token decides where attention looks.
    probes = [tokens[(2 * i + 1) * len(tokens) // (2 * n_probes)] for i in range(n_probes)]
    engine.clear_cancel()
    _append(active, [])  # what the file owes
    restored = _rows(active, probes, may_be_nan=True)
    rows: list[list[array[float]]] = []
    for pieces in ([tokens], list(_as_said(snapshot))):
        active.reset()
        for piece in pieces:
            _append(active, piece, on_progress if len(piece) == len(tokens) else None)
        rows.append(_rows(active, probes))
    active.reset()
    at_once, as_said = rows
    nearer = min(rows, key=lambda row: _distance(restored, row))
    normal = _distance(as_said, at_once)
    return LogitCheck(
        positions=n_probes,
        agreeing=sum(_best(a) == _best(b) for a, b in zip(restored, nearer, strict=True)),
        difference=_distance(restored, nearer),
        normal=normal,
        limit=_EXACT_LIMIT if normal < _EXACT else max(_FLOOR, _FACTOR * normal),
        seconds=time.perf_counter() - start,
    )


def _rows(active: Active, probes: Sequence[int], *, may_be_nan: bool = False) -> list[array[float]]:
    """The logits after each of these tokens, evaluated one by one after the conversation."""
    sequence = active.sequence
    rows: list[array[float]] = []
    for token in probes:
        _append(active, [token])
        try:
            rows.append(array("f", sequence.logits().tobytes()))
        except EngineError:  # they are NaN: what was restored is not a cache of this model
            if not may_be_nan:
                raise
            rows.append(array("f", [math.nan]) * active.engine.info.n_vocab)
    return rows


def _append(active: Active, tokens: Sequence[int], on_progress: OnProgress | None = None) -> None:
    if not active.kv.append(tokens, on_progress):
        raise SessionCancelled("cancelled while the conversation was being evaluated again")


def _as_said(snapshot: Snapshot) -> Generator[Sequence[int]]:
    """The conversation in the pieces it was evaluated in, as far as they are known."""
    tokens, at = snapshot.tokens, 0
    for mark in snapshot.turns:
        yield from _one_by_one(tokens[at : mark.start])
        yield tokens[mark.start : mark.prompt_end]
        at = mark.prompt_end
    if snapshot.turns:
        yield from _one_by_one(tokens[at:])
    else:
        yield from (tokens[i : i + _PIECE] for i in range(0, len(tokens), _PIECE))


def _one_by_one(tokens: Sequence[int]) -> Generator[Sequence[int]]:
    return (tokens[i : i + 1] for i in range(len(tokens)))


def _distance(rows: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """Root mean square of the difference, as a share of the standard deviation of ``others``."""
    apart = math.hypot(*(math.dist(row, other) for row, other in zip(rows, others, strict=True)))
    spread = math.hypot(*(math.dist(row, [sum(row) / len(row)] * len(row)) for row in others))
    if spread == 0:
        return 0.0 if apart == 0 else math.inf
    return apart / spread


def _best(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)
