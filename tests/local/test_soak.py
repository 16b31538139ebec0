"""Thousands of turns over many named sessions in little memory: nothing wrong, nothing lost, nothing leaks."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from tests.ledger import assert_likeliest, machine
from tools.random_model import write_model

TURNS = 500
NAMES = [f"session {i}" for i in range(50)]
N_CTX = 384
GREEDY_FEW = SamplingParams(temperature=0, max_tokens=3)
WORDS = ["Once", "upon", "a", "time", "there", "was", "little", "mouse", "house", "and", "then"]


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> list[str]:
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))
        except OSError:
            continue  # the one that lists them
    return sorted(links)


class _Talk:
    """Random turns over random sessions."""

    def __init__(self, llama: LlamaBridge, folder: Path, seed: int) -> None:
        self.llama, self.folder, self.rng = llama, folder, random.Random(seed)
        self.saved: dict[str, tuple[int, ...]] = {}

    def turn(self) -> None:
        rng, llama = self.rng, self.llama
        name = rng.choice(NAMES)
        session = llama.session(name)
        if len(session.tokens) > N_CTX - 40:
            session.reset()
        prompt = " ".join(rng.choices(WORDS, k=rng.randint(1, 5)))
        params = SamplingParams(temperature=0.8, seed=rng.randrange(1000), max_tokens=4)
        what = rng.random()
        if what < 0.6:
            before = session.tokens
            session.generate_continue(prompt, sampling=params, chat=False)
            assert session.tokens[: len(before)] == before
        elif what < 0.7:
            stream = session.generate_continue_stream(prompt, sampling=params, chat=False)
            for _ in range(rng.randint(0, 3)):
                next(stream, "")
            llama.cancel()
            assert stream.result is not None
        elif what < 0.78 and session.n_turns:
            session.rewind(rng.randint(1, session.n_turns))
        elif what < 0.82 and session.n_turns:
            session.regenerate(sampling=params)
        elif what < 0.88 and session.active:
            other = rng.choice([n for n in NAMES if n != name])
            llama.session(other).delete()
            assert session.fork(other).tokens == session.tokens
        elif what < 0.94 and session.active:
            slot = rng.choice("ab")
            session.save(self.folder / slot)
            self.saved[slot] = session.tokens
        elif self.saved:
            slot = rng.choice(sorted(self.saved))
            session.load(self.folder / slot)
            assert session.tokens == self.saved[slot]
        assert machine(llama).engine.length == len(machine(llama).kv.tokens)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "kept"), [("llama", True), ("lfm2", False)])
def test_soak(architecture: str, kept: bool, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_model(model, architecture=architecture, seed=11)
    with LlamaBridge(
        model,
        backend="native",
        params=ModelParams(n_ctx=N_CTX),
        session_memory=1_000_000,  # a handful of the fifty
        sessions_dir=tmp_path / "kept" if kept else None,
    ) as llama:
        talk = _Talk(llama, tmp_path, seed=13)
        for _ in range(TURNS // 2):
            talk.turn()
        llama.sessions_flush()
        resident, files = _resident(), _open_files()
        for _ in range(TURNS // 2):
            talk.turn()
        llama.sessions_flush()
        assert _resident() < resident * 1.05
        assert not Counter(_open_files()) - Counter(
            files
        )  # a test before this one may close some late
        assert len(llama.sessions()) == len(NAMES)
        for name in NAMES:
            session = llama.session(name)
            if session.active:
                ledger = session.tokens
                session.generate_continue("end", sampling=GREEDY_FEW, chat=False)
                tokens = session.tokens
                assert tokens[: len(ledger)] == ledger
                held = machine(llama).snapshot()
                assert_likeliest(machine(llama).engine, tokens[:-3], tokens[-3:])
                assert machine(llama).restore(held)
