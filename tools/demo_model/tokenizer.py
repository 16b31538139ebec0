"""A small byte-level BPE that llama.cpp reproduces (`gpt2` model, `gpt-2` pre-tokenizer).

Its merges are chosen for copying. A value must split into the same tokens at any position, so
merges are learned on words *without* the leading space; only whole frequent words then get one
with it. Bytes above ASCII are never merged: any UTF-8 text works, and a character outside ASCII
always spans several tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

import regex

from dialogues import Dialogue, dialogue
from values import value

SPECIAL = ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
BOS, EOS, _, _, ASSISTANT, END = range(len(SPECIAL))
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""Word for word what llama.cpp's built-in formatter `phi3` produces, so both ways agree."""

SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
NAME_MERGES, WORD_MERGES, SPACE_MERGES = 110, 580, 250


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself if printable, else shifted above 255."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


BYTES = _byte_characters()
SPACE = BYTES[32]
NEVER = 1 << 30
Merge = tuple[str, str]


@dataclass
class Tokenizer:
    """Text to ids and back; `merges` in order of rank define everything."""

    merges: list[Merge]
    tokens: list[str] = field(init=False)
    ids: dict[str, int] = field(init=False)
    _ranks: dict[Merge, int] = field(init=False)
    _known: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = [*SPECIAL, *BYTES, *(a + b for a, b in self.merges)]
        self.ids = {token: at for at, token in enumerate(self.tokens)}
        self._ranks = {merge: rank for rank, merge in enumerate(self.merges)}

    def _word(self, word: str) -> list[int]:
        parts = [BYTES[byte] for byte in word.encode()]
        while len(parts) > 1:
            ranked = [self._ranks.get(pair, NEVER) for pair in pairwise(parts)]
            best = min(ranked)
            if best == NEVER:
                break
            at = ranked.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text: str) -> list[int]:
        """Plain text to ids; special tokens in it are not looked for."""
        ids: list[int] = []
        for word in SPLIT.findall(text):
            known = self._known.get(word)
            if known is None:
                known = self._word(word)
                if len(self._known) < 50_000:
                    self._known[word] = known
            ids += known
        return ids

    def dialogue(self, talk: Dialogue) -> tuple[list[int], list[bool]]:
        """A dialogue as the chat template renders it, and which tokens the model must produce."""
        newline = self.ids[BYTES[10]]
        ids, learned = [BOS], [False]
        for message in talk.messages():
            body = self.encode(message["content"])
            ids += [self.ids[f"<|{message['role']}|>"], newline, *body, END, newline]
            mine = message["role"] == "assistant"
            learned += [False, False, *[mine] * (len(body) + 1), False]
        return ids, learned

    def save(self, path: Path) -> None:
        """Keep the merges; everything else follows from them."""
        path.write_text(json.dumps(self.merges, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """The tokenizer of a finished training."""
        return cls([(a, b) for a, b in json.loads(path.read_text(encoding="utf-8"))])


def _learn(counts: Counter[str], merges: list[Merge], wanted: int) -> None:
    """Plain BPE training on word counts; appends `wanted` merges."""
    start = Tokenizer(list(merges))
    words = [([start.tokens[i] for i in start._word(word)], n) for word, n in counts.items()]
    made = set(start.tokens)
    target = len(merges) + wanted
    while len(merges) < target:
        pairs: Counter[Merge] = Counter()
        for parts, count in words:
            for pair in pairwise(parts):
                if pair[0] + pair[1] not in made:
                    pairs[pair] += count
        if not pairs:
            return
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        made.add(best[0] + best[1])
        for parts, _ in words:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [best[0] + best[1]]
                at += 1


def _ascii_words(texts: Iterable[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(word for word in SPLIT.findall(text) if word.isascii())
    return found


def train(seed: int = 1) -> Tokenizer:
    """Learn the merges: pairs of letters from values, whole words from phrases, then spaces."""
    rng = Random(seed)
    merges: list[Merge] = []
    _learn(_ascii_words(value(rng) for _ in range(6000)), merges, NAME_MERGES)
    talks = (dialogue(rng, 4) for _ in range(6000))
    seen = _ascii_words(m["content"] for talk in talks for m in talk.messages())
    bare: Counter[str] = Counter()
    for word, count in seen.items():
        if word.strip().isalpha():
            bare[word.strip()] += count
    # Values are rare as whole words; the cut keeps their letters from shaping the merges.
    frequent = Counter({w: int(n**0.75) for w, n in bare.items() if n >= 30 and len(w) > 1})
    _learn(frequent, merges, WORD_MERGES)
    tokens = {a + b for a, b in merges} | set(BYTES)
    spaced = [
        word.strip()
        for word, _ in seen.most_common()
        if word.startswith(" ") and word.strip() in tokens and (word.islower() or word == " I")
    ]
    merges += [(SPACE, word) for word in spaced[:SPACE_MERGES]]
    return Tokenizer(merges)
