"""Ctrl-C at every fifth line of a call, until it runs through: afterwards all is whole each time.

A line in a loop is tried once. ``make attack`` tries each instruction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.testing import FakeLlama, babble
from tests.attack.interrupts import OPERATIONS, count, interrupted, prepare, what_is_torn

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no Ctrl-C")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", OPERATIONS)
def test_an_interrupt_at_any_line_leaves_conversations_whole_and_nobody_waiting(
    work: Callable[[LlamaBridge], None],
) -> None:
    at, goes_on = OPERATIONS.index(work) % 5, True
    with FakeLlama(lambda asked: babble(asked)[:3] + "!") as llama:
        while goes_on:
            at += 5
            first = prepare(llama)
            goes_on = interrupted(lambda: work(llama), at, "line")
            assert what_is_torn(llama, first) is None, f"at line {at}"
    assert at > 100, "hardly a line was tried"


def test_there_are_many_steps_of_both_kinds() -> None:
    with FakeLlama("answer") as llama:
        lines, opcodes = (count(lambda: llama.generate("x"), step) for step in ("line", "opcode"))
    assert min(opcodes, lines) > 100
