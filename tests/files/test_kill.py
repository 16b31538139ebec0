"""A process killed in the middle of writing: each file is the old one or the new one, whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.files.format import read_session_file

SAID = ("Hello! My name is Zorvane.", "Thanks!", "What is my name?", "Who are you?")
SHORT = SamplingParams(temperature=0, max_tokens=3)
KILLS = 45
"""Of each of the three ways to write: 210 together."""


def save(folder: Path, ready: Event) -> None:
    """Save two conversations by turns over the same file, for ever."""
    with LlamaBridge("demo", backend="native") as llama:
        short, long = llama.session("short"), llama.session("long")
        short.generate(SAID[0], sampling=SHORT)
        for text in SAID:
            long.generate_continue(text, sampling=SHORT)
        ready.set()
        while True:
            long.save(folder / "a.session")
            short.save(folder / "a.session")


def keep(folder: Path, ready: Event) -> None:
    """Go on in a few named sessions that are written in the background, for ever."""
    with LlamaBridge("demo", backend="native", sessions_dir=folder) as llama:
        llama.generate(SAID[0], sampling=SHORT)  # the first one starts chat.wasm
        ready.set()
        while True:
            for name in "abc":
                llama.session(name).generate(SAID[0], sampling=SHORT)
                for text in SAID[1:]:
                    llama.session(name).generate_continue(text, sampling=SHORT)


def evict(folder: Path, ready: Event) -> None:
    """The same where neither memory nor disk holds the KV caches of all."""
    with LlamaBridge(
        "demo", backend="native", sessions_dir=folder, session_memory=0, sessions_disk=600_000
    ) as llama:
        llama.generate(SAID[0], sampling=SHORT)
        ready.set()
        while True:
            for _ in SAID:
                for name in "abcdef":
                    session = llama.session(name)
                    if session.n_turns >= len(SAID):
                        session.reset()
                    session.generate_continue(SAID[session.n_turns], sampling=SHORT)


def wait_for_a_part(folder: Path) -> None:
    """Until a file is being written, which a disk may do too quickly to be met by chance."""
    before = set(folder.glob(".*.part"))
    end = time.monotonic() + 1
    while time.monotonic() < end and set(folder.glob(".*.part")) <= before:
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("native_backend")
@pytest.mark.parametrize("work", [save, keep, evict])
def test_a_killed_process_leaves_whole_files(
    work: Callable[[Path, Event], None], tmp_path: Path
) -> None:
    rng = random.Random(work.__name__)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["llama_bridge_native.engine", __name__])
    seen: dict[str, int] = {}
    halves = 0
    for _ in range(KILLS):
        ready = context.Event()
        child = context.Process(target=work, args=(tmp_path, ready), daemon=True)
        child.start()
        assert ready.wait(60)
        if rng.random() < 0.5:
            time.sleep(rng.random() * 0.06)
        else:
            wait_for_a_part(tmp_path)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(20)
        assert child.exitcode == -signal.SIGKILL
        child.close()
        halves += len(list(tmp_path.glob(".*.part")))
        for path in tmp_path.glob("*.session"):
            file = read_session_file(path)  # the digest of all of it
            messages = file.manifest["messages"]
            asked = [message["content"] for message in messages[::2]]
            assert asked == list(SAID[: len(asked)]), (
                "nobody loses a turn, with or without KV cache"
            )
            seen[json.dumps(asked)] = seen.get(json.dumps(asked), 0) + 1
    assert halves > KILLS / 20, "the kills did not come in the middle of writing"
    assert len(seen) > 1
    # The next owner takes the folder over, sweeps it and goes on.
    with LlamaBridge("demo", backend="native", sessions_dir=tmp_path) as llama:
        assert not list(tmp_path.glob(".*.part"))
        for path in tmp_path.glob("*.session"):
            session = llama.session(path.stem)
            turns = session.n_turns
            session.generate_continue("What is my name?", sampling=SHORT)
            assert session.n_turns == turns + 1
