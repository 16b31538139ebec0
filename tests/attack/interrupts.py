"""Ctrl-C at the first, second, third ... step of an operation, until it runs through: all is whole each time."""

from __future__ import annotations

import dis
import linecache
import random
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import llama_bridge
from llama_bridge import BridgeError, LlamaBridge, Message, later_signals
from llama_bridge.testing import FakeLlama, babble
from llama_bridge.testing.adapters import write_adapter
from tests.guessing import Parrot, let_guess
from tests.ledger import machine

__all__ = [
    "OPERATIONS",
    "count",
    "interrupted",
    "interrupts",
    "is_cleaning_up",
    "is_out_of_reach",
    "prepare",
    "what_is_torn",
]

Step = Literal["line", "opcode"]
STUCK = "somebody still has the engine"

_BRIDGE = Path(llama_bridge.__file__).parent
_OURS = tuple(
    str(_BRIDGE / name)
    for name in (
        "local",
        "files",
        "stream.py",
        "conversation.py",
        "session.py",
        "bridge.py",
        "loading.py",
        "bell.py",
    )
)
_CHECKS = ("RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "CALL", "PRECALL")
"""Instructions after which Python looks whether a signal came."""


# the operations


def one_turn(llama: LlamaBridge) -> None:
    llama.generate_continue("what?")


def fresh_turn(llama: LlamaBridge) -> None:
    llama.generate("what?")


def half_read_then_another(llama: LlamaBridge) -> None:
    stream = llama.generate_continue_stream("what?")
    next(stream)
    llama.generate_continue("and?")
    stream.close()


def two_conversations(llama: LlamaBridge) -> None:
    llama.session("work").generate_continue("at work?")
    llama.generate_continue("what?")


def saved_and_loaded(llama: LlamaBridge) -> None:
    path = _beside(llama, "a.session")
    llama.session_save(path)
    llama.session().rewind()
    llama.session_load(path)


def verified_and_loaded_with_care(llama: LlamaBridge) -> None:
    path = _beside(llama, "b.session")
    llama.session("other").generate("elsewhere")
    llama.session("other").save(path)
    llama.session_verify(path)
    llama.session("other").load(path, replay=True)


def forked_and_answered_anew(llama: LlamaBridge) -> None:
    branch = llama.session_fork()
    branch.regenerate()
    branch.delete()


def rewound_and_reset(llama: LlamaBridge) -> None:
    llama.session("work").generate("at work?")
    llama.session("work").rewind()
    llama.session("work").reset()


def looked_at(llama: LlamaBridge) -> None:
    llama.session("work").generate("at work?")
    for conversation in (llama.session(), llama.session("work")):
        assert conversation.active, conversation.messages
        assert conversation.n_turns
    llama.tokenize("x")
    llama.apply_chat_template([{"role": "user", "content": "x"}])


def in_a_shape(llama: LlamaBridge) -> None:
    llama.generate_continue("what?", grammar='root ::= "forced " ("a" | "b") "!!"')
    llama.generate_continue("and?", logprobs=1)


def other_adapters(llama: LlamaBridge) -> None:
    llama.session("work").generate("at work?")
    llama.set_adapters([_beside(llama, "adapter.gguf")])
    llama.generate_continue("what?")


def guessed(llama: LlamaBridge) -> None:
    let_guess(llama, Parrot())
    llama.generate_continue("what else?", speculate=True)
    again = llama.session().regenerate(speculate=True)
    assert again.usage.drafted_tokens > again.usage.accepted_tokens > 1
    llama.generate_continue("and else?", speculate=True, stop="!")


OPERATIONS: list[Callable[[LlamaBridge], None]] = [
    one_turn,
    fresh_turn,
    in_a_shape,
    guessed,
    half_read_then_another,
    two_conversations,
    saved_and_loaded,
    verified_and_loaded_with_care,
    forked_and_answered_anew,
    rewound_and_reset,
    looked_at,
    other_adapters,
]


def _beside(llama: LlamaBridge, name: str) -> Path:
    return Path(llama.model.path.parent, name)


# the attack


def interrupts(seed: int) -> Iterator[str | None]:
    """The attack: each instruction of each operation where a signal can come, in an order of chance."""
    steps: list[tuple[Callable[[LlamaBridge], None], int]] = []
    for work in OPERATIONS:
        with _fresh() as llama:
            prepare(llama)
            n = count(partial(work, llama), "opcode")
            steps += [(work, at) for at in range(1, n + 1)]
    random.Random(seed).shuffle(steps)
    while steps:
        llama = _fresh()
        torn = None
        while steps and torn is None:
            work, at = steps.pop()
            first = prepare(llama)
            interrupted(partial(work, llama), at, "opcode")
            torn = what_is_torn(llama, first)
            yield torn and f"{work.__name__}, step {at}: {torn}"
        if torn != STUCK:
            llama.close()


def _fresh() -> FakeLlama:
    return FakeLlama(lambda asked: babble(asked)[:3] + "!")


def prepare(llama: LlamaBridge) -> list[Message]:
    """The same beginning for each try; gives what was said in it."""
    for name in llama.sessions():
        llama.session(name).delete()
    if not (adapter := _beside(llama, "adapter.gguf")).exists():
        write_adapter(adapter, llama.model)
    llama.set_adapters([])
    llama.generate("hello")
    return llama.session().messages


def count(work: Callable[[], object], step: Step) -> int:
    """How many steps some work has."""
    counter = _Interrupt(sys.maxsize, step)
    counter.run(work)
    return sys.maxsize - counter.left


def interrupted(work: Callable[[], object], at: int, step: Step) -> bool:
    """Do some work with an interrupt at its so-and-so-many-th step in the bridge; False if it has not so many."""
    interrupt = _Interrupt(at, step)
    interrupt.run(work)
    return interrupt.left <= 0


class _Interrupt:
    def __init__(self, at: int, step: Step) -> None:
        self.left = at
        self._step = step
        self._seen: set[tuple[CodeType, int | None, CodeType | None, int | None]] = set()
        self._after: dict[FrameType, int] = {}  # the instruction before, of each frame

    def run(self, work: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            work()
        except (KeyboardInterrupt, BridgeError):
            pass
        finally:
            sys.settrace(before)
            self._after.clear()

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes = self._step == "opcode"
        frame.f_trace_lines = self._step == "line"
        return self._look

    def _look(self, frame: FrameType, event: str, _: Any) -> Any:
        if later_signals._holder is not None:  # signals wait
            return self._look
        if event == self._step and self._is_reached(frame) and not is_cleaning_up(frame):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._look

    def _is_reached(self, frame: FrameType) -> bool:
        """Whether a signal can come here. A line counts once for each line that led to it: no loop is tried in each round."""
        if self._step == "line":
            before = frame.f_back
            led = (before.f_code, before.f_lineno) if before else (None, None)
            place = (frame.f_code, frame.f_lineno, *led)
            if place in self._seen:
                return False
            self._seen.add(place)
            return not is_out_of_reach(frame)
        instruction = self._after.get(frame, 0)
        self._after[frame] = frame.f_lasti
        if (
            _name(frame.f_code, frame.f_lasti) == "CALL"
        ):  # what comes before it is a part of the call
            return False
        return _name(frame.f_code, instruction).startswith(_CHECKS)


def _name(code: CodeType, at: int) -> str:
    return dis.opname[code.co_code[at]]


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


# afterwards


def what_is_torn(llama: LlamaBridge, first: list[Message]) -> str | None:
    """What is not whole any more, after an interrupt in one of the operations."""
    for conversation in (llama.session(), *map(llama.session, llama.sessions())):
        text, at = llama.detokenize(conversation.tokens), 0
        answers = [m for m in conversation.messages if m["role"] == "assistant"]
        if conversation.n_turns != len(answers):
            return f"{conversation}: {conversation.n_turns} turns and {len(answers)} answers"
        for message in conversation.messages:
            if (at := text.find(message["content"], at)) < 0:
                return f"{conversation}: {message} is not among its tokens"
            at += len(message["content"])
    messages = llama.session().messages
    begins = messages[: len(first)] == first or not messages or messages[0]["content"] == "what?"
    if not begins or any("at work?" in message["content"] for message in messages):
        return f"the bridge's conversation has another's words: {messages}"
    for name in llama.sessions():
        said = [message["content"] for message in llama.session(name).messages]
        if "what?" in said and not name.startswith("branch"):
            return f"session {name!r} has the bridge's words: {said}"
    done: list[str] = []
    thread = threading.Thread(
        target=lambda: done.append(llama.generate_continue("x").text), daemon=True
    )
    thread.start()
    thread.join(10)
    if not done:
        return STUCK
    active = machine(llama)
    if active.engine.length != len(active.kv.tokens) or (active.engine.length and active.kv.owed):
        return f"{len(active.kv.tokens)} tokens in the ledger, {active.engine.length} in the cache"
    left = [path.name for path in llama.model.path.parent.iterdir() if path.suffix == ".part"]
    return f"left behind: {left}" if left else None
