"""NaN in the cells of one conversation, while others are computed beside it in the same cache."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from llama_bridge import EngineError, LlamaBridge
from llama_bridge.snapshot import Snapshot
from tests.ledger import GREEDY
from tests.local.test_company import asking, assert_in_step, at_once, runtime


@pytest.mark.parametrize("flash_attn", [True, False])
def test_it_ends_no_other_answer(flash_attn: bool) -> None:
    with LlamaBridge("demo", backend="native", n_parallel=3, flash_attn=flash_attn) as llama:
        expected = {q: llama.generate(q, sampling=GREEDY).text for q in ("Who are you?", "Hello!")}
        bad = llama.session("bad")
        for _ in range(3):
            bad.generate("Hello! My name is Zorvane.", sampling=GREEDY)
            seat = runtime(llama)._pool.seat_of("bad")
            assert seat is not None
            snapshot = seat.active.snapshot()
            assert snapshot.state is not None
            forged = bytearray(snapshot.state)
            forged[-4000:] = struct.pack("<e", float("nan")) * 2000  # the values of the last layer
            tokens = snapshot.tokens
            kept = Snapshot(tokens, snapshot.held, state=memoryview(forged))
            assert seat.active.restore(kept)
            stream = llama.generate_stream("Who are you?", sampling=GREEDY)
            begin = next(stream)
            mine, theirs, new = at_once(
                lambda: bad.generate_continue("What is my name?", sampling=GREEDY),
                partial(getattr, stream, "result"),
                asking(llama, "Hello!"),
            )
            assert (begin, theirs.text) == (theirs.text[: len(begin)], expected["Who are you?"])
            assert new.text == expected["Hello!"]
            # Evaluated again or refused, but never an answer to numbers that are none.
            assert isinstance(mine, EngineError) or "Zorvane" in mine.text
            later = bad.generate_continue("What is my name?", sampling=GREEDY)
            assert "Zorvane" in later.text
            assert_in_step(llama)
