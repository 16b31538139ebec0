"""Measures the exported GGUF through llama.cpp: the numbers of the model card come from here.

    python evaluate.py ../../bridge/llama_bridge/data/demo.gguf --json build/measured.json

Values are held out from training. An answer counts only if it equals the expected one in every
character (for hand-written trials: if it begins as expected). Greedy, then ordinary sampling.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import jinja2
import llama_cpp

import handmade
import outside
import phrases as p
import tokenizer as tok
from dialogues import Speaker, Turn, dialogue
from smalltalk import TALK
from values import NAME_LIKE, value

SEED = 7
SAMPLED = {"temp": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.0, "repeat_penalty": 1.0}
GREEDY = {"temp": 0.0, "top_k": 1, "min_p": 0.0, "repeat_penalty": 1.0}
Turns = list[Turn]


class Chat:
    """A conversation with the file under test; the template and the vocabulary are the file's."""

    def __init__(self, path: Path) -> None:
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False, seed=SEED
        )
        source = self.llama.metadata["tokenizer.chat_template"]
        self.template = jinja2.Environment(keep_trailing_newline=True).from_string(source)
        vocabulary = llama_cpp.llama_model_get_vocab(self.llama.model)
        self.is_end: Callable[[int], bool] = lambda token: bool(
            llama_cpp.llama_vocab_is_eog(vocabulary, token)
        )

    def tokens(self, messages: list[dict[str, str]]) -> list[int]:
        """The whole prompt, by the template and the vocabulary inside the file."""
        text = self.template.render(messages=messages, add_generation_prompt=True)
        return list(self.llama.tokenize(text.encode(), add_bos=True, special=True))

    def answer(self, messages: list[dict[str, str]], how: dict[str, float]) -> str:
        """The model's answer; special tokens are shown, so a stray one counts as a mistake."""
        made: list[int] = []
        prompt = self.tokens(messages)
        room = min(120, 1024 - len(prompt))
        for token in self.llama.generate(prompt, **how):  # type: ignore[arg-type]
            if self.is_end(token) or len(made) >= room:
                break
            made.append(token)
        return self.llama.detokenize(made, special=True).decode("utf-8", "replace")


@dataclass(frozen=True)
class Trial:
    """A dialogue: the model gives its last `played` answers, of which the last `judged` count."""

    turns: Turns
    played: int = 1
    judged: int = 1
    exact: bool = True
    system: str | None = None


def right(chat: Chat, trial: Trial, how: dict[str, float]) -> tuple[bool, str]:
    """Whether every judged answer is as expected, and if not, which one went wrong."""
    messages = [{"role": "system", "content": trial.system}] if trial.system else []
    for at, (user, expected) in enumerate(trial.turns):
        messages.append({"role": "user", "content": user})
        said = expected
        if at >= len(trial.turns) - trial.played:
            said = chat.answer(messages, how)
            fine = said == expected if trial.exact else said.startswith(expected)
            if not fine and at >= len(trial.turns) - trial.judged:
                return False, f"{user!r} -> {said!r}, expected {expected!r}"
        messages.append({"role": "assistant", "content": said})
    return True, ""


def _speaker(rng: Random) -> Speaker:
    return Speaker(rng, lambda: value(rng, from_held_out=True, makers=NAME_LIKE))


def _between(speaker: Speaker, low: int, high: int) -> Turns:
    count = speaker.rng.randint(low, high)
    return [speaker.talk() if speaker.rng.random() < 0.6 else speaker.stray() for _ in range(count)]


def recall(rng: Random, kind: str) -> Iterator[Trial]:
    """Told, up to four other exchanges, asked: the whole dialogue is the model's own."""
    for _ in range(200):
        s = _speaker(rng)
        turns = [s.tell(kind), *_between(s, 0, 4), s.ask(kind)]
        yield Trial(turns, played=len(turns))


def fresh(rng: Random, kind: str) -> Iterator[Trial]:
    """Asked in a new conversation; in half of them after other facts were told."""
    for at in range(200):
        s = _speaker(rng)
        others = [s.tell(k) for k in p.KINDS if k != kind][: rng.randint(1, 2) if at % 2 else 0]
        yield Trial([*others, s.ask(kind)])


def corrected(rng: Random) -> Iterator[Trial]:
    """Told, told anew, asked: the newer value counts."""
    for _ in range(200):
        s, kind = _speaker(rng), rng.choice(p.KINDS)
        turns = [s.tell(kind), *_between(s, 0, 1), s.correct(kind), *_between(s, 0, 1), s.ask(kind)]
        yield Trial(turns, played=len(turns))


def two_facts(rng: Random) -> Iterator[Trial]:
    """Two or three facts in one message, each asked afterwards."""
    for _ in range(200):
        s = _speaker(rng)
        turns = [s.tell_many()]
        turns += [s.ask(kind) for kind in s.facts]
        yield Trial(turns, played=len(turns), judged=len(turns))


def six_turns(rng: Random) -> Iterator[Trial]:
    """Six exchanges of any kind, with at least one fact told and asked; all six must be right."""
    for _ in range(200):
        talk = dialogue(rng, 1, system=0.15)
        s, kind = _speaker(rng), rng.choice(p.KINDS)
        turns = [s.tell(kind), *(s.any() for _ in range(4)), s.ask(kind)]
        yield Trial(turns, played=6, judged=6, system=talk.system)


def distant(rng: Random) -> Iterator[Trial]:
    """Told at the start, asked when the context is nearly full (about 900 tokens later)."""
    for _ in range(100):
        s, kind = _speaker(rng), rng.choice(p.KINDS)
        turns = [s.tell(kind)]
        while sum(len(user) + len(said) + 12 for user, said in turns) < 2400:
            turns += _between(s, 1, 1)
        yield Trial([*turns, s.ask(kind)])


def talk_all(rng: Random) -> Iterator[Trial]:
    """Every wording of small talk, and some that are in no table."""
    for wordings, answer in TALK:
        for wording in wordings.split("|"):
            yield Trial([(wording, answer)])
    for prompt, start in handmade.TALK:
        yield Trial([(prompt, start)], exact=False)


def hand_recall(rng: Random) -> Iterator[Trial]:
    """Unseen wordings and reserved values, every value three times."""
    for kind in p.KINDS:
        for told in handmade.VALUES[kind] * 3:
            tell = rng.choice(handmade.TELL[kind]).format(v=told)
            ask = rng.choice(handmade.ASK[kind])
            said = p.ACKNOWLEDGE[kind].format(v=told)
            yield Trial([(tell, said), (ask, p.RECALL[kind].format(v=told))], played=2, judged=2)


def hand_fresh(rng: Random) -> Iterator[Trial]:
    """Unseen questions in a new conversation."""
    for kind in p.KINDS:
        for ask in handmade.ASK[kind]:
            yield Trial([(ask, p.UNKNOWN[kind])])


def hand_outside(rng: Random) -> Iterator[Trial]:
    """Unseen prompts out of domain: any honest answer is right, a made-up fact is not."""
    for prompt in handmade.OUTSIDE:
        yield Trial([(prompt, "")], exact=False)


GROUPS: dict[str, Callable[[Random], Iterator[Trial]]] = {
    **{f"recall: {kind}": lambda rng, kind=kind: recall(rng, kind) for kind in p.KINDS},
    **{f"fresh: {kind}": lambda rng, kind=kind: fresh(rng, kind) for kind in p.KINDS},
    "corrected": corrected,
    "two facts in one message": two_facts,
    "six turns": six_turns,
    "recall over a full context": distant,
    "small talk and definitions": talk_all,
    "hand-written recall": hand_recall,
    "hand-written fresh": hand_fresh,
    "hand-written outside": hand_outside,
}
HONEST = {outside.OTHER, outside.EXAMPLE, outside.SUMMARY}


def same_tokens(chat: Chat, checkpoint: Path) -> int:
    """Check that the file's tokenizer and the training tokenizer split all texts alike; return how many."""
    mine, rng = tok.Tokenizer.load(checkpoint), Random(SEED)
    odd = ["", " ", "\n\n a", "日本語 テスト", "🙂🙃 ok", "x²½ ١٢٣", "it's's I'LL", "\u2028\u00a0é"]
    texts = odd + [m["content"] for _ in range(300) for m in dialogue(rng, 6).messages()]
    for text in texts:
        theirs = list(chat.llama.tokenize(text.encode(), add_bos=False, special=False))
        if theirs != mine.encode(text):
            raise SystemExit(f"tokenizers differ on {text!r}")
    return len(texts)


def measure(chat: Chat, label: str, how: dict[str, float], show: int) -> tuple[int, int]:
    """How many trials of a group are right, out of how many; prints the first failures."""
    rng, good, total = Random(f"{SEED} {label}"), 0, 0
    for trial in GROUPS[label](rng):
        if label == "hand-written outside":
            said = chat.answer([{"role": "user", "content": trial.turns[0][0]}], how)
            fine, why = said in HONEST, f"{trial.turns[0][0]!r} -> {said!r}"
        else:
            fine, why = right(chat, trial, how)
        total += 1
        good += fine
        if not fine and total - good <= show:
            print(f"    {why}")
    return good, total


def main() -> None:
    """Measure one file; the table goes to the terminal and, as numbers, to `--json`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("gguf", type=Path)
    options.add_argument("--tokenizer", type=Path, help="the training's tokenizer.json, to compare")
    options.add_argument("--json", type=Path, help="write the numbers here too")
    options.add_argument("--show", type=int, default=3, help="failures to print per group")
    options.add_argument("--only", default="", help="groups whose label contains this")
    args = options.parse_args()
    chat = Chat(args.gguf)
    if args.tokenizer:
        print(f"tokenizers agree on {same_tokens(chat, args.tokenizer)} texts")
    table: dict[str, dict[str, float]] = {}
    start = time.monotonic()
    for label in (label for label in GROUPS if args.only in label):
        table[label] = {}
        for mode, how in (("greedy", GREEDY), ("sampled", SAMPLED)):
            good, total = measure(chat, label, how, args.show)
            share = math.floor(1000 * good / total) / 10
            table[label][mode] = share
            print(f"| {label} | {mode} | {good}/{total} | {share} % |", flush=True)
    print(f"{time.monotonic() - start:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
