"""A quick look at the model during training: are whole answers to held-out dialogues right?

Teacher-forced, in PyTorch: cheap, and equal to greedy decoding as long as the answer is right.
The real measurement is `evaluate.py`, on the exported file, through llama.cpp.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import torch

import phrases as p
import tokenizer as tok
from dialogues import Speaker
from model import DemoModel
from outside import outside
from smalltalk import TALK
from values import value


def sort_of(answer: str) -> str:
    """The kind of an answer, from its wording."""
    for label, table in (("told", p.ACKNOWLEDGE), ("recall", p.RECALL)):
        if any(answer.startswith(text.split("{")[0]) for text in table.values()):
            return label
    if answer in p.UNKNOWN.values() or answer == p.NOTHING:
        return "unknown"
    return "talk" if any(answer == text for _, text in TALK) else "outside"


@torch.no_grad()
def answers_right(
    model: DemoModel, tokenizer: tok.Tokenizer, dialogues: int = 150
) -> dict[str, float]:
    """Share of answers that are right in every token, for each kind of answer."""
    rng = Random(99)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    model.eval()
    for _ in range(dialogues):
        speaker = Speaker(rng, lambda: value(rng, from_held_out=True))
        turns = [speaker.any() for _ in range(5)]
        if rng.random() < 0.3:
            turns.append(outside(rng))
        ids: list[int] = [tok.BOS]
        newline = tokenizer.encode("\n")
        spans = []
        for user, answer in turns:
            ids += [tokenizer.ids["<|user|>"], *newline, *tokenizer.encode(user), tok.END, *newline]
            ids += [tok.ASSISTANT, *newline]
            body = [*tokenizer.encode(answer), tok.END]
            spans.append((len(ids), len(ids) + len(body), sort_of(answer)))
            ids += [*body, *newline]
        given = torch.tensor(ids[: model.shape.context])
        guessed = model(given[None, :-1])[0].argmax(-1)
        for start, end, label in spans:
            if end <= len(given):
                total[label] += 1
                right[label] += int(torch.equal(guessed[start - 1 : end - 1], given[start:end]))
    model.train()
    return {label: round(right[label] / total[label], 3) for label in sorted(total)}
