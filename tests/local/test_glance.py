"""Looking at a conversation at rest: cheap, of the right one, and believed only as far as it was checked."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from llama_bridge import InvalidInput, LlamaBridge, SamplingParams, SessionCorrupt
from llama_bridge.files import format as session_format
from llama_bridge.local import pool as pool_module
from llama_bridge.testing import FakeLlama
from tests.local.test_conversations import pool

SHORT = SamplingParams(temperature=0, max_tokens=4)


def _bridge(folder: Path, **more: object) -> LlamaBridge:
    return LlamaBridge("demo", backend="native", sessions_dir=folder, **more)  # type: ignore[arg-type]


def test_a_session_at_rest_is_told_from_the_head_of_its_file_which_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello! " * 100, sampling=SHORT)
        expected = (llama.session("a").tokens, llama.session("a").messages)
    size = (tmp_path / "a.session").stat().st_size
    n_read: list[int] = []
    piece = session_format._piece

    def counted(file: Any, start: int, wanted: int) -> bytes:
        n_read.append(wanted)
        return piece(file, start, wanted)

    monkeypatch.setattr(session_format, "_piece", counted)
    with _bridge(tmp_path) as llama:
        a = llama.session("a")
        for _ in range(5):
            assert (a.tokens, a.messages, a.n_turns, a.active) == (*expected, 1, True)
        assert 0 < sum(n_read) < size / 4
        once = len(n_read)
        assert a.tokens
        assert len(n_read) == once
        a.generate_continue("Thanks!", sampling=SHORT)
        assert len(a.messages) == 4


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with _bridge(folder) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
        llama.session("b").generate("Hello!", sampling=SHORT)
        llama.session("b").generate_continue("Thanks!", sampling=SHORT)
    with _bridge(folder) as llama:
        assert llama.session("a").n_turns == 1
        os.replace(folder / "b.session", folder / "a.session")
        assert llama.session("a").n_turns == 2
        (folder / "a.session").unlink()
        assert llama.session("a").n_turns == 2, "what was seen outlives its file"


def test_what_was_not_checked_at_a_glance_is_checked_when_it_is_used(tmp_path: Path) -> None:
    with _bridge(tmp_path) as llama:
        llama.session("a").generate("Hello!", sampling=SHORT)
    path = tmp_path / "a.session"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # among the KV bytes
    path.write_bytes(data)
    with _bridge(tmp_path) as llama:
        assert len(llama.session("a").messages) == 2
        with pytest.raises(SessionCorrupt, match="digest"):
            llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        assert llama.session().active is False


def test_a_glance_sees_no_other_conversation_however_the_cache_changes_hands() -> None:
    """The looker is stopped at each of its lines while another thread switches there and back."""
    with FakeLlama("fine") as llama:
        for name, text in (("a", "aaa"), ("b", "bbb"), ("c", "ccc")):
            llama.session(name).generate(text)
        conversations, n_steps = pool(llama), 0
        before = conversations.glance("a")

        def take(*names: str) -> None:
            for name in names:
                if name != conversations.seats[0].name:
                    conversations.switch(name)

        for start in ("a", "b"):
            for turns in (("a",), ("b",), ("b", "a"), ("c", "b"), ("a", "b"), ("a", "c", "a")):
                at, goes_on = 0, True
                while goes_on:
                    at += 1
                    take(start)
                    seen, goes_on = _look(conversations, partial(take, *turns), at)
                    assert seen == before, f"from {start!r} by {turns} at step {at}"
                n_steps += at
        assert n_steps > 300


def _look(conversations: Any, meanwhile: Callable[[], None], at: int) -> tuple[Any, bool]:
    """A glance at ``a`` in the middle of which, at its so-and-so-many-th step, something else happens."""
    left, ours = at, (pool_module.__file__, pool_module.__file__.replace("pool.py", "active.py"))

    def steps(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                other = threading.Thread(target=meanwhile)
                other.start()
                other.join(20)
        return steps

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: steps if frame.f_code.co_filename in ours else None)
    try:
        return conversations.glance("a"), left <= 0
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "name", ["\ud800", 5, 1.5, b"x", None.__class__, ["a"], "", "x" * 300, "日" * 100, "x" * 10**7]
)
def test_a_name_that_cannot_be_one_is_refused_with_and_without_a_folder(
    name: Any, kept: bool, tmp_path: Path
) -> None:
    with FakeLlama("fine") as fake:
        more: dict[str, Any] = {"sessions_dir": tmp_path} if kept else {}
        with LlamaBridge(fake.model.path, backend=fake.fake, **more) as llama:
            for use in (llama.session, llama.session_fork):
                with pytest.raises(InvalidInput, match="name") as caught:
                    use(name)
                assert len(str(caught.value)) < 300
            assert llama.sessions() == []


def test_a_branch_of_a_long_name_gets_a_name_that_fits() -> None:
    with FakeLlama("fine") as llama:
        long = llama.session("x" * 247)
        long.generate("hi")
        branches = [long.fork(), long.fork()]
        assert len({branch.name for branch in branches}) == 2
        for branch in branches:
            assert llama.session(branch.name).messages == long.messages
