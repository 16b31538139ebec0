"""Ctrl-C at each step of what changes conversations: none is lost, exchanged or halved, in memory or on disk."""

from __future__ import annotations

import dis
import os
import sys
import threading
from collections.abc import Callable, Generator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import llama_bridge
from llama_bridge import LlamaBridge, Snapshot
from llama_bridge.files.format import read_session_head
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.testing import FakeLlama, babble
from tests.attack.interrupts import is_cleaning_up, is_out_of_reach
from tests.ledger import machine

BRIDGE = str(Path(llama_bridge.__file__).parent)
OURS = tuple(
    str(Path(BRIDGE, name))
    for name in ("local", "files", "conversation.py", "session.py", "bell.py")
)
TAUGHT = {"": ("aaa", "bbb"), "a": ("ccc", "ddd"), "b": ("eee", "fff"), "c": ("ggg",)}
EMPTY = Snapshot()

DECIDES = ("CALL", "RESUME", "JUMP_BACKWARD", "STORE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR")
"""Bytecodes behind which Python looks for signals, or something has changed. """

Spot = tuple[CodeType, int]
Work = Callable[[LlamaBridge, Path], object]


@cache
def telling(code: CodeType) -> frozenset[int]:
    """Where an interrupt may find something else than one instruction before."""
    steps = list(dis.get_instructions(code))
    return frozenset(
        after.offset for step, after in pairwise(steps) if step.opname.startswith(DECIDES)
    )


class Traced:
    """Runs some work; at one bytecode of the bridge's, when it is first reached, Ctrl-C comes."""

    def __init__(self, at: Spot | None = None) -> None:
        self.spots: dict[Spot, None] = {}
        self._at = at

    def run(self, work: Callable[[], object]) -> bool:
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._step if frame.f_code.co_filename.startswith(OURS) else None

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        spot = frame.f_code, frame.f_lasti
        if (
            event == "opcode"
            and spot not in self.spots
            and frame.f_lasti in telling(frame.f_code)
            and not is_out_of_reach(frame)
            and not is_cleaning_up(frame)
        ):
            self.spots[spot] = None
            if spot == self._at:
                raise KeyboardInterrupt
        return self._step


def saved(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").save(files / "saved")


def verified(llama: LlamaBridge, files: Path) -> None:
    llama.session_verify(files / "c")


def forked(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").fork("x")


def deleted(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").delete()


def deleted_while_it_has_the_cache(llama: LlamaBridge, files: Path) -> None:
    llama.session("a").delete()


def rewound(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").rewind()


def loaded(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").load(files / "c")


def forgotten(llama: LlamaBridge, files: Path) -> None:
    llama.session("b").reset()


@pytest.fixture
def kept(tmp_path: Path) -> Generator[LlamaBridge]:
    with (
        FakeLlama(lambda asked: babble(asked)[:3] + "!") as fake,
        LlamaBridge(fake.model.path, backend=fake.fake, sessions_dir=tmp_path / "kept") as llama,
    ):
        yield llama


def teach(llama: LlamaBridge, files: Path) -> dict[str, Snapshot]:
    """Conversations with different pasts, and a file of each."""
    for name, turns in TAUGHT.items():
        for text in turns:
            llama.session(name or None).generate_continue(text)
        llama.session(name or None).save(files / (name or "own"))
    llama.session("c").delete()
    return as_before(llama, files)


def as_before(llama: LlamaBridge, files: Path) -> dict[str, Snapshot]:
    """All as it was taught; ``a`` has the KV cache."""
    for name in ("x", "c"):
        llama.session(name).delete()
    for name in ("", "b", "a"):
        llama.session(name or None).load(files / (name or "own"))
    return now(llama)


def now(llama: LlamaBridge) -> dict[str, Snapshot]:
    return {name: runtime(llama).past(name) for name in ("", "a", "b", "c", "x")}


def runtime(llama: LlamaBridge) -> LocalRuntime:
    found = llama._shared.alive()
    assert isinstance(found, LocalRuntime)
    return found


def on_disk(folder: Path) -> dict[str, tuple[int, ...]]:
    heads = {path.stem: read_session_head(path) for path in folder.glob("*.session")}
    return {name: (*head.tokens, *head.manifest["owed"]) for name, head in heads.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no Ctrl-C")
@pytest.mark.parametrize(
    "work",
    [
        saved,
        verified,
        forked,
        deleted,
        deleted_while_it_has_the_cache,
        rewound,
        loaded,
        forgotten,
    ],
)
def test_an_interrupt_at_any_step_leaves_each_conversation_as_it_was_or_as_it_should_be(
    work: Work, kept: LlamaBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # thousands of times, and no power fails
    before = teach(kept, tmp_path)
    recorder = Traced()
    assert not recorder.run(lambda: work(kept, tmp_path))
    after = now(kept)
    assert len(recorder.spots) > 60, "hardly a step was tried"
    hits = 0
    for spot in recorder.spots:
        as_before(kept, tmp_path)
        hits += Traced(spot).run(lambda: work(kept, tmp_path))
        where = f"{spot[0].co_qualname} at {spot[1]}"
        assert not runtime(kept)._scheduler.lock.locked(), where
        found = now(kept)
        for name, snapshot in found.items():
            assert snapshot in (before[name], after[name]), f"{name!r} after {where}"
        active = machine(kept)
        active.kv.check()
        assert len(active.kv.tokens) == active.engine.length, where
        runtime(kept)._pool.keep_all()
        kept.sessions_flush()
        there = {name: s.tokens for name, s in found.items() if name and s.tokens}
        assert on_disk(tmp_path / "kept") == there, where
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")], where
    assert hits > len(recorder.spots) / 2
    done: list[str] = []
    thread = threading.Thread(
        target=lambda: done.append(kept.session("b").generate_continue("z").text), daemon=True
    )
    thread.start()
    thread.join(10)
    assert done
