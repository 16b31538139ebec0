"""Decode speed with guesses from what was said before, against one token at a time, in the same bridge."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llama_bridge import LlamaBridge, SamplingParams, Usage

from .measure import Spread, alternate, ratio, spread
from .models import quoting_model
from .report import Report, times

__all__ = ["measure_speculation"]

_QUOTES, _NOTHING_REPEATS = 1.5, 0.97
_EDITED = 24
"""In a text with changes, one word of so many is another one."""


@dataclass(frozen=True)
class _Answer:
    """What it cost.

    Attributes:
        speed: tokens in a second of the process's own time, after the first text: what others do on the machine at the same time
            changes that less, and it is the same where one thread computes.
        usage: the rest.
    """

    speed: float
    usage: Usage


@dataclass(frozen=True)
class _Race:
    """An answer without and with guesses, round by round."""

    backend: str
    name: str
    alone: list[_Answer]
    guessed: list[_Answer]

    @property
    def gain(self) -> Spread:
        """How many times faster it is with guesses."""
        return ratio(*([one.speed for one in each] for each in (self.guessed, self.alone)))

    @property
    def row(self) -> list[str]:
        """A row of the table."""
        speeds = (spread([one.speed for one in each]) for each in (self.alone, self.guessed))
        drafted = sum(one.usage.drafted_tokens for one in self.guessed)
        accepted = sum(one.usage.accepted_tokens for one in self.guessed)
        shown = [f"{speed.median:.1f}" for speed in speeds]
        return [self.backend, self.name, *shown, times(self.gain), f"{accepted} of {drafted}"]

    def judge(self, report: Report, least: float) -> None:
        """Hold it against its bound."""
        promise = f"{self.backend} with guesses at least {least:g} of one by one where an answer {self.name}"
        report.bound(promise, self.gain.median, self.gain.median >= least, times(self.gain))


def measure_speculation(
    report: Report,
    model: Path,
    backends: list[str],
    *,
    n_threads: int,
    rounds: int,
    n_decode: int,
    quick: bool,
) -> None:
    """Three rows and two bounds for each backend."""
    greedy = SamplingParams(temperature=0, max_tokens=n_decode)
    free = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=1, max_tokens=n_decode)
    rows: list[list[str]] = []
    for backend in backends:

        def opened(path: Path, backend: str = backend) -> LlamaBridge:
            return LlamaBridge(path, backend=backend, n_ctx=1024, n_threads=n_threads)

        with opened(model) as llama:
            words = _words(llama, n_decode + n_decode // _EDITED + 1)
            said, others = words[:n_decode], words[n_decode:]
            text = llama.detokenize(said)
            other = _race(llama, "repeats nothing", text, free, 2 * rounds)  # a narrow bound
        with opened(quoting_model(said, quick=quick)) as llama:
            quoted = _race(llama, "quotes its prompt", text, greedy, rounds)
            for i, word in enumerate(others[:-1]):
                said[_EDITED * i + _EDITED // 2] = word
            edited = llama.detokenize(said)
            changed = _race(llama, f"changes one word of {_EDITED}", edited, greedy, rounds)
        rows += [found.row for found in (other, quoted, changed)]
        other.judge(report, _NOTHING_REPEATS)
        quoted.judge(report, _QUOTES)
    report.table(
        f"Guesses from what was said: {n_decode} tokens of an answer, {rounds} rounds",
        ["", "an answer that", "one by one t/s", "with guesses t/s", "ratio", "came true"],
        rows,
        "In processor time. Medians; ratios within a round, with quartiles. Two models of one size: random weights, and an output matrix that quotes.",
    )


def _words(llama: LlamaBridge, n: int) -> list[int]:
    """Words of one token each, such that a text of them has these tokens again."""
    found: list[int] = []
    for token in range(300, llama.info.n_vocab):
        word = llama.detokenize([token])
        plain = word.isascii() and word[:1] == " " and word[1:].isalpha()
        if plain and llama.tokenize(f".{word}.", add_special=False)[1:-1] == [token]:
            found.append(token)
        if len(found) == n:
            return found
    raise RuntimeError(f"{llama.model.name} has only {len(found)} such words")


def _race(
    llama: LlamaBridge, name: str, prompt: str, sampling: SamplingParams, rounds: int
) -> _Race:
    def answer(speculate: bool) -> _Answer:
        llama.session_reset()
        stream = llama.generate_stream(prompt, chat=False, sampling=sampling, speculate=speculate)
        text, clock = next(stream), time.process_time()
        text += "".join(stream)
        spent = time.process_time() - clock
        if name.startswith("quotes") and text.strip() not in prompt:
            raise RuntimeError(f"it does not quote: {text!r}")
        usage = stream.result.usage
        return _Answer((usage.completion_tokens - 1) / spent, usage)

    contenders = {"alone": partial(answer, False), "guessed": partial(answer, True)}
    alternate(contenders, 1, f"guesses, {name}, warming up")
    found = alternate(contenders, rounds, f"guesses, {name}")
    return _Race(llama.backend, name, found["alone"], found["guessed"])
