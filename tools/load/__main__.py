"""``python -m tools.load [--seconds N]``: the exit status says whether the server held."""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import openai

from tests.making import embedding_model

from .bad import misbehave
from .good import Client, Wrong
from .program import Program

_CHAT, _EMBEDDER = "demo", "embedder"
_GROWTH = 1.05
_BAD = 4
"""One client in so many does not behave."""


class Run:
    """One run: counts what happens in all threads."""

    def __init__(self, program: Program, seconds: float) -> None:
        self.program = program
        self.end = time.monotonic() + seconds
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.away = False  # whether the server was killed and is not back yet
        self.killed = 0

    def good(self, number: int) -> None:
        """A client that behaves, until the end."""
        client = Client(self.program.port, random.Random(number), _CHAT, _EMBEDDER)
        while time.monotonic() < self.end:
            before = self.killed
            try:
                self.done[client.once()] += 1
            except Wrong as error:
                self.problems.append(f"wrong answer: {error}"[:500])
            except openai.InternalServerError as error:
                if error.status_code == 503:
                    self.done["busy"] += 1
                    time.sleep(0.1)
                else:
                    self.problems.append(f"{error.status_code}: {error}"[:500])
            except openai.APIStatusError as error:
                self.problems.append(f"{error.status_code}: {error}"[:500])
            except openai.OpenAIError as error:
                if self.away or self.killed != before:
                    self.done["cut by a kill"] += 1
                    time.sleep(0.05)
                else:
                    self.problems.append(f"{type(error).__name__}: {error}"[:500])

    def bad(self, number: int) -> None:
        """A client that does not, until the end."""
        chance = random.Random(number)
        while time.monotonic() < self.end:
            try:
                what, status = misbehave(self.program.port, chance, _CHAT)
            except OSError:
                time.sleep(0.05)
                continue
            self.done[what] += 1
            if status >= 500 and status != 503:
                self.problems.append(f"{what}: {status}")

    def kill(self) -> None:
        """Kill the server, and start it again."""
        self.away = True
        self.killed += 1
        self.program.kill()
        self.program.start()
        self.away = False
        self.killed += 1


def main() -> int:
    """Load a server, kill it twice, judge."""
    parser = argparse.ArgumentParser(prog="python -m tools.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--backend", default="auto")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        log = Path(folder, "log")
        embedder = Path(folder, f"{_EMBEDDER}.gguf")
        embedding_model(embedder)
        program = Program(
            *(_CHAT, str(embedder), "--sessions-dir", str(Path(folder, "sessions"))),
            *("--backend", given.backend, "--session-memory", "4"),  # full after some seconds
            log=log,
        )
        program.start()
        try:
            return _load(program, given.seconds, given.clients, log)
        finally:
            if program.alive:
                program.kill()


def _load(program: Program, seconds: float, n_clients: int, log: Path) -> int:
    run = Run(program, seconds)
    threads = [
        threading.Thread(target=run.bad if i % _BAD == 0 else run.good, args=(i,), daemon=True)
        for i in range(n_clients)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    memory: list[int] = []
    while (now := time.monotonic()) < run.end:
        time.sleep(min(1, run.end - now))
        spent = (now - began) / seconds
        if run.killed // 2 < min(2, int(6 * spent)):
            run.kill()
            memory.clear()
        elif not program.alive:
            run.problems.append(f"the server ended by itself: {log.read_text()[-1000:]}")
            break
        else:
            memory.append(program.memory)
    for thread in threads:
        thread.join(130)
        if thread.is_alive():
            run.problems.append("a client waits for ever")
    # In the first half of the time since the last start, caches fill up to their bounds.
    settled, last = max(memory[len(memory) // 2 : 2 * len(memory) // 3]), max(memory[-5:])
    print("memory, MB:", " ".join(f"{m / 1e6:.0f}" for m in memory[:: max(1, len(memory) // 20)]))
    growth = last / settled
    print(f"{sum(run.done.values())} requests of {n_clients} clients in {seconds:.0f} s:")
    print(", ".join(f"{name.strip('_')} {n}" for name, n in run.done.most_common()))
    print(f"memory {settled / 1e6:.1f} MB, at the end {last / 1e6:.1f} MB: {growth:.3f}")
    if growth > _GROWTH:
        run.problems.append(f"memory grew to {growth:.3f}")
    if program.alive and (status := program.end()) != 0:
        run.problems.append(f"the server ended with {status}")
    print("\n".join(run.problems[:20]) or "it held")
    return bool(run.problems)


if __name__ == "__main__":
    sys.exit(main())
