"""Answers computed together: each step is one batch with the next tokens of all, and a piece of a prompt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from ..engine import CacheFull, Engine
from ..errors import EngineError
from .pace import Pace
from .running_turn import RunningTurn

__all__ = ["Company", "rows_beside"]

_GROUP = 4
"""Matrix products on CPUs take rows in groups of so many; each row beside them costs as much as a group."""

_ROWS = 60
"""From 64 rows on, llama.cpp's attention on CPUs sums in another order: an answer would differ from the same one alone."""

_AT_ONCE = 16
"""An answer appends so many tokens in one step: the one that was drawn, and those that a grammar forces."""

_TURN_OF_THE_OLDEST = 4
"""The shortest prompt comes first, but the one that waits longest gets each fourth step."""


class Company:
    """Computes answers, alone or together.

    Args:
        engine: the engine.
        check: brings all ledgers in line with the cache.
    """

    def __init__(self, engine: Engine, check: Callable[[], None]) -> None:
        self._engine = engine
        self._check = check
        self._pace = Pace()
        self._steps = 0
        self._clean = True  # whether every ledger is known to be in step with the cache

    def advance(
        self,
        turns: Sequence[RunningTurn],
        reader: RunningTurn | None,
    ) -> None:
        """Compute the next text of these turns, or a piece of a prompt. Each turn keeps its own error.

        Args:
            turns: one or more, oldest first.
            reader: the one whose reader is the caller.
        """
        if not self._clean:
            self._check()
            self._clean = True
        self._clean = False
        again = [turn.again for turn in turns]
        # With several places, others may come while a prompt is evaluated: see _begin_together().
        if len(turns) == 1 and not (self._engine.info.n_parallel > 1 and turns[0].in_prefill):
            done = self._alone(turns[0], reader)
        else:
            done = self._together(turns, reader)
        self._clean = done and again == [turn.again for turn in turns]
        if not self._clean:  # also those of conversations that nobody computes
            self._check()
            self._clean = True

    def call_back(self, turns: Sequence[RunningTurn]) -> None:
        """There is room again for turns that made way."""
        for turn in turns:
            turn.parked = False

    def _alone(self, turn: RunningTurn, reader: RunningTurn | None) -> bool:
        with contextlib.suppress(Exception):  # the turn has it
            try:
                turn.advance(reading=turn is reader)
                return True
            except CacheFull as error:  # all others have given up theirs
                turn.fail(EngineError(str(error)))
        return False

    def _together(self, turns: Sequence[RunningTurn], reader: RunningTurn | None) -> bool:
        # Who ends its answer while the others are asked may need the cells of one of them.
        pieces = [one for one in self._pieces(turns, reader) if not one[0].parked]
        clock = 0.0
        while pieces:
            clock = time.perf_counter()
            try:
                if not self._engine.decode_together(
                    [(turn.active.sequence, tokens) for turn, tokens in pieces]
                ):
                    return False  # one of them has been cancelled: the others begin this step again
                break
            except CacheFull as error:
                oldest = min((turn for turn, _ in pieces), key=lambda turn: turn.number)
                if not oldest.active.kv.make_room():
                    oldest.fail(EngineError(str(error)))
                pieces = [one for one in pieces if not (one[0].parked or one[0].done)]
            except EngineError as error:
                for turn, _ in pieces:
                    turn.active.kv.check()
                    turn.fail(error)
                return False
        if pieces:
            seconds = time.perf_counter() - clock
            prompts = [len(p) for turn, p in pieces if turn.in_prefill or turn.n_waiting > _AT_ONCE]
            for turn, tokens in pieces:
                with contextlib.suppress(Exception):  # the turn has it
                    turn.took(tokens, seconds, reading=turn is reader)
            self._pace.note(len(pieces) - len(prompts), sum(prompts), seconds)
        return True

    def _pieces(
        self, turns: Sequence[RunningTurn], reader: RunningTurn | None
    ) -> list[tuple[RunningTurn, list[int]]]:
        """What each turn appends next; those that append nothing go on by themselves."""
        for turn in turns:
            with contextlib.suppress(Exception):  # the turn has it
                turn.begin(reading=turn is reader)
        going = [turn for turn in turns if not turn.done]
        # An answer that made way for others is evaluated again, in pieces like a prompt.
        prompts = [turn for turn in going if turn.in_prefill or turn.n_waiting > _AT_ONCE]
        answers = [turn for turn in going if turn not in prompts]
        most = self._engine.info.n_batch
        room = min(most, _ROWS) if self._engine.info.n_gpu_layers == 0 else most
        pieces: list[tuple[RunningTurn, list[int]]] = []
        for turn in answers:
            tokens = self._ask(turn, room, reader)
            if tokens:
                pieces.append((turn, tokens))
                room -= len(tokens)
        if pieces and prompts:
            taken = sum(len(tokens) for _, tokens in pieces)
            room = min(room, self._pace.room(len(pieces)))
            room = rows_beside(taken, room)
        held = 0 if answers else self._held_back(prompts, room)
        for turn in self._in_order(prompts):
            waiting = most
            if held and not turn.ended:
                waiting = turn.n_waiting - 1 - (turn.n_waiting - 1) % held
            if waiting == 0:
                continue
            if room <= 0:
                break
            if not pieces and turn.n_waiting > room:  # it fills a batch of its own
                waiting = _whole(min(waiting, turn.n_waiting))
            else:
                waiting = min(waiting, room)
            tokens = self._ask(turn, waiting, reader)
            if tokens:
                pieces.append((turn, tokens))
                room -= len(tokens)
        return pieces

    def _held_back(self, prompts: Sequence[RunningTurn], room: int) -> int:
        """So many tokens of each prompt at most wait for the other prompts, so that their answers begin at once; 0: none.

        The first answer to begin would slow down the others' prompts, for the sake of its stream. So those that come at
        about the same time, and are short, are evaluated first, which takes two batches at most. A prompt that is alone
        waits, too, in case others have come meanwhile.
        """
        waiting = [turn.n_waiting for turn in prompts]
        most = self._engine.info.n_batch
        held = _GROUP if _GROUP * len(prompts) <= room else 1
        short = max(waiting, default=0) <= most and sum(waiting) <= 2 * most
        return held if short and max(waiting, default=0) > held else 0

    def _ask(self, turn: RunningTurn, room: int, reader: RunningTurn | None) -> list[int] | None:
        if not turn.ended and (
            turn.parked or room <= 0
        ):  # it waits for cells, or for the next step
            return None
        reading = turn is reader
        with contextlib.suppress(Exception):  # the turn has it
            tokens = turn.wants(room, reading=reading)
            if tokens is None and not turn.done:
                turn.advance(reading=reading)
            return tokens
        return None

    def _in_order(self, prompts: list[RunningTurn]) -> list[RunningTurn]:
        """The shortest one first, from time to time the oldest."""
        self._steps += 1
        if self._steps % _TURN_OF_THE_OLDEST == 0 and prompts:
            oldest = prompts[0]
            return [oldest, *sorted(prompts[1:], key=lambda turn: turn.n_waiting)]
        return sorted(prompts, key=lambda turn: turn.n_waiting)


def _whole(n_rows: int) -> int:
    """So many rows or a few less, so that no row is outside a group."""
    return n_rows if n_rows < _GROUP else n_rows - n_rows % _GROUP


def rows_beside(n_rows: int, room: int) -> int:
    """So many rows of prompts beside these of answers, at most ``room``: whole groups in all, if something is left then."""
    return room if room < _GROUP else _whole(n_rows + room) - n_rows
