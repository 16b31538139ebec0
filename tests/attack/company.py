"""Many threads that do everything at once with one model, for some seconds: nothing is lost, mixed up or held for ever."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_bridge import Busy, Capability, ContextOverflow, LlamaBridge, Session
from llama_bridge.local.local_runtime import LocalRuntime

__all__ = ["chaos"]

NAMES = ["Zorvane", "Quill", "Marlow", "Tavik", "Osha"]
QUESTIONS = [
    "Hello!",
    "Who are you?",
    "What is two plus three?",
    "Name a colour.",
    "Count from one to ten.",
    "Tell me a story about a cat.",
]
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
RAW = "the quick brown fox "


def chaos(
    backend: str,
    seconds: float,
    *,
    seed: int = 0,
    n_parallel: int = 4,
    n_ctx: int = 4096,
    n_threads: int = 6,
) -> tuple[list[str], Counter[str]]:
    """What went wrong, and how often each thing was done."""
    with LlamaBridge("demo", backend=backend) as llama:
        expected = {q: llama.generate(q, temperature=0, max_tokens=40).text for q in QUESTIONS}
    with (
        TemporaryDirectory() as folder,
        LlamaBridge(
            "demo", backend=backend, n_parallel=n_parallel, n_ctx=n_ctx, max_waiting=n_threads
        ) as llama,
    ):
        people = [
            _Person(llama, expected, random.Random(100 * seed + i), Path(folder), f"p{i}")
            for i in range(n_threads)
        ]
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=p.live, args=(end,), daemon=True) for p in people]
        for thread in threads:
            thread.start()
        problems: list[str] = []
        for person, thread in zip(people, threads, strict=True):
            thread.join(seconds + 60)
            problems += person.problems
            if thread.is_alive():
                return [*problems, f"{person.name} waits for ever: {person.doing}"], Counter()
        runtime = llama._shared.alive()
        assert isinstance(runtime, LocalRuntime)
        for seat in runtime._pool.seats:
            kv = seat.active.kv
            if kv.sequence.length != len(kv.tokens):
                problems.append(f"{len(kv.tokens)} tokens in a ledger of {kv.sequence.length}")
        return problems, sum((person.done for person in people), Counter())


class _Person:
    """Does one thing after the other, drawn by chance."""

    def __init__(
        self,
        llama: LlamaBridge,
        expected: dict[str, str],
        chance: random.Random,
        folder: Path,
        name: str,
    ) -> None:
        self.name = name
        self.doing = ""
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self._llama = llama
        self._expected = expected
        self._chance = chance
        self._folder = folder
        self._called = ""  # what it told its conversation to be called
        self._can: list[Callable[[], None]] = [
            self._ask,
            self._ask,
            self._read,
            self._drop,
            self._cancel,
            self._hot,
            self._shape,
            self._long,
        ]
        self._talk_to: Session | None = None
        if Capability.SESSION_TOOLS in llama.capabilities:
            self._talk_to = llama.session(name)
            self._can += [self._talk, self._talk, self._save, self._fork, self._rewind]

    def live(self, end: float) -> None:
        """Go on until then."""
        while time.monotonic() < end and len(self.problems) < 5:
            what = self._chance.choice(self._can)
            self.doing = what.__name__
            self.done[self.doing] += 1
            try:
                what()
            except Busy:
                pass
            except ContextOverflow:
                if self._talk_to is not None:
                    self._talk_to.reset()
                self._called = ""
            except Exception as error:
                self.problems.append(f"{self.doing}: {type(error).__name__}: {error}")

    @property
    def _session(self) -> Session:
        assert self._talk_to is not None
        return self._talk_to

    def _expect(self, ok: bool, found: object) -> None:
        if not ok:
            self.problems.append(f"{self.doing}: {found}")

    def _ask(self) -> None:
        question = self._chance.choice(QUESTIONS)
        answer = self._llama.generate(question, temperature=0, max_tokens=40)
        self._expect(answer.text == self._expected[question], (question, answer))

    def _read(self) -> None:
        question, text = self._chance.choice(QUESTIONS), ""
        for piece in self._llama.generate_stream(question, temperature=0, max_tokens=40):
            text += piece
            time.sleep(self._chance.random() * 0.003)
        self._expect(text == self._expected[question], (question, text))

    def _drop(self) -> None:
        next(self._llama.generate_stream(self._chance.choice(QUESTIONS), max_tokens=200), None)

    def _cancel(self) -> None:
        prompt = RAW * self._chance.randint(1, 60)
        stream = self._llama.generate_stream(prompt, max_tokens=100, chat=False)
        timer = threading.Timer(self._chance.random() * 0.02, stream.cancel)
        timer.start()
        list(stream)
        timer.join()

    def _hot(self) -> None:
        self._llama.generate(self._chance.choice(QUESTIONS), temperature=1.3, max_tokens=50)

    def _shape(self) -> None:
        how: dict[str, Any] = {"json_schema": NUMBER, "temperature": 0, "max_tokens": 60}
        answer = self._llama.generate("A number?", **how)
        whole = answer.finish_reason == "stop"
        self._expect(not whole or isinstance(answer.parsed["n"], int), answer)

    def _long(self) -> None:
        prompt = RAW * self._chance.randint(10, 40)
        self._llama.generate(prompt, max_tokens=20, chat=False)

    def _talk(self) -> None:
        session = self._session
        if not self._called or self._chance.random() < 0.3:
            self._called = self._chance.choice(NAMES)
            hello = f"Hello! My name is {self._called}."
            session.generate(hello, temperature=0, max_tokens=40)
        answer = session.generate_continue("What is my name?", temperature=0, max_tokens=40)
        self._expect(self._called in answer.text, (self._called, answer))

    def _save(self) -> None:
        session, path = self._session, self._folder / self.name
        if not self._called:
            return
        session.save(path)
        before = session.tokens
        if self._chance.random() < 0.5:
            session.reset()
        session.load(path)
        self._expect(session.tokens == before, "the tokens changed")

    def _fork(self) -> None:
        if not self._called:
            return
        branch = self._session.fork()
        answer = branch.generate_continue("What is my name?", temperature=0, max_tokens=40)
        self._expect(self._called in answer.text, (self._called, answer))
        branch.delete()

    def _rewind(self) -> None:
        if self._called and self._session.n_turns > 1:
            self._session.rewind(1)


if __name__ == "__main__":
    found, done = chaos(
        sys.argv[1],
        float(sys.argv[2]),
        seed=int(sys.argv[3]),
        n_parallel=int(sys.argv[4]),
        n_ctx=int(sys.argv[5]),
    )
    print("\n".join(found) or "nothing went wrong", dict(done))
    sys.exit(bool(found))
