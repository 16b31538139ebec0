"""Ctrl-C at the first, second, third ... line of a call, until it runs through: afterwards all is whole each time."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import llama_bridge
from llama_bridge import EngineError
from llama_bridge.testing import FakeLlama, babble
from tests.ledger import machine

BRIDGE = str(Path(llama_bridge.__file__).parent)
OURS = tuple(
    str(Path(BRIDGE, name)) for name in ("local", "stream.py", "conversation.py", "bridge.py")
)


def interrupted(work: Callable[[], object], at: int) -> bool:
    """Do some work with an interrupt at its so-and-so-many-th line in the bridge; False if it has not so many."""
    left = at

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return lines if frame.f_code.co_filename.startswith(OURS) else None

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line" and not is_cleaning_up(frame) and not is_out_of_reach(frame):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return lines

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except (KeyboardInterrupt, EngineError):
        pass
    finally:
        sys.settrace(before)
    return left <= 0


def is_cleaning_up(frame: FrameType | None) -> bool:
    """Python ignores what is raised in there."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def is_out_of_reach(frame: FrameType) -> bool:
    """A trace function is called where no signal can come: at ``try:``, and between a block and its clean-up."""
    if frame.f_lineno is None:  # an instruction that stands for no line
        return True
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return line.lstrip().startswith(("with ", "try:"))


def one_turn(llama: FakeLlama) -> None:
    llama.generate_continue("what?")


def half_read_then_another(llama: FakeLlama) -> None:
    stream = llama.generate_continue_stream("what?")
    next(stream)
    llama.generate_continue("and?")
    stream.close()


def two_conversations(llama: FakeLlama) -> None:
    llama.session("work").generate_continue("at work?")
    llama.generate_continue("what?")


def saved_and_loaded(llama: FakeLlama) -> None:
    path = Path(llama.model.path.parent, "a.session")
    llama.session_save(path)
    llama.session().rewind()
    llama.session_load(path)


def verified_and_loaded_with_care(llama: FakeLlama) -> None:
    path = Path(llama.model.path.parent, "b.session")
    llama.session("other").generate("elsewhere")
    llama.session("other").save(path)
    llama.session_verify(path)
    llama.session("other").load(path, replay=True)


def forked_and_answered_anew(llama: FakeLlama) -> None:
    branch = llama.session_fork()
    branch.regenerate()
    branch.delete()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no Ctrl-C")
@pytest.mark.parametrize(
    "work",
    [
        one_turn,
        half_read_then_another,
        two_conversations,
        saved_and_loaded,
        verified_and_loaded_with_care,
        forked_and_answered_anew,
    ],
)
def test_an_interrupt_at_any_line_leaves_conversations_whole_and_nobody_waiting(
    work: Callable[[FakeLlama], None],
) -> None:
    at, goes_on = 0, True
    with FakeLlama(lambda asked: babble(asked)[:3] + "!") as llama:
        while goes_on:
            at += 1
            for name in llama.sessions():
                llama.session(name).delete()
            llama.generate("hello")
            first = llama.session().messages
            goes_on = interrupted(lambda: work(llama), at)
            assert_whole(llama, first)
    assert at > 100, "hardly a line was tried"


def assert_whole(llama: FakeLlama, first: list[Any]) -> None:
    for conversation in (llama.session(), *map(llama.session, llama.sessions())):
        text, at = llama.detokenize(conversation.tokens), 0
        answers = [m for m in conversation.messages if m["role"] == "assistant"]
        assert conversation.n_turns == len(answers)
        for message in conversation.messages:
            at = text.index(message["content"], at) + len(message["content"])
    messages = llama.session().messages
    assert messages[: len(first)] in (first, []), "another conversation's words"
    assert all("at work?" not in message["content"] for message in messages)
    done: list[str] = []
    thread = threading.Thread(
        target=lambda: done.append(llama.generate_continue("x").text), daemon=True
    )
    thread.start()
    thread.join(10)
    assert done, "somebody still has the engine"
    active = machine(llama)
    assert len(active.kv.tokens) == active.engine.length
    assert active.engine.length == 0 or not active.kv.owed
    for name in llama.sessions():
        text = "".join(message["content"] for message in llama.session(name).messages)
        assert "what?" not in text or name.startswith("branch")
