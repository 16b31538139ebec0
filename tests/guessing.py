"""Guesses for tests: they are made whether they pay or not, and some are wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from llama_bridge import Generation, LlamaBridge, SamplingParams, Usage
from llama_bridge.local.guesses import Guesses
from tests.ledger import engine_of, machine

__all__ = ["GRAMMARS", "GREEDY", "Parrot", "consistent", "let_guess", "same"]

GREEDY = SamplingParams(temperature=0, max_tokens=40)
SHAPE = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "known": {"type": "boolean"}},
    "required": ["name", "known"],
}
GRAMMARS: list[dict[str, Any]] = [
    {"json_schema": SHAPE},
    {"grammar": 'root ::= "The name is " [A-Z] [a-z]{2,12} (", my friend" | "!!") "."'},
    {"grammar": "root ::= [a-z ]{5,40} [.]"},
]

P = TypeVar("P", bound="Parrot | None")


class Parrot(Guesses):
    """Guesses what it heard after the same two tokens, so many tokens of it, and then so many that are wrong.

    Attributes:
        heard: what it guesses from.
        right, guessed: how many guesses came, of how many.
        on_token: called with each token of an answer.
    """

    def __init__(
        self, heard: Sequence[int] = (), rng: random.Random | None = None, *, wrong: int = 1
    ) -> None:
        super().__init__(15)
        self.heard = list(heard)
        self.right = self.guessed = 0
        self.on_token: Callable[[int], None] = lambda _: None
        self._said: list[int] = []
        self._rng = rng
        self._wrong = wrong

    def follow(self, conversation: Sequence[int]) -> None:
        self._said = list(conversation)

    def said(self, token: int) -> None:
        self._said.append(token)
        self.heard.append(token)
        self.on_token(token)

    def next(self, most: int) -> list[int]:
        heard, last, rng = self.heard, self._said[-2:], self._rng
        places = [i for i in range(2, len(heard)) if heard[i - 2 : i] == last]
        if not places:
            return []
        place = places[0] if rng is None else rng.choice(places)
        n, wrong = (3, self._wrong) if rng is None else (rng.randrange(9), rng.randrange(4))
        return [*heard[place : place + n], *heard[:wrong]][: max(0, most)]

    def took(self, n_guesses: int, n_said: int, seconds: float) -> None:
        self.guessed += n_guesses
        self.right += n_said - 1


def let_guess(llama: LlamaBridge, parrot: P) -> P:
    """Let it guess for the conversation in the KV cache, where its engine checks guesses; None: as it always does."""
    machine(llama)._guesses = parrot
    return parrot


def same(without: Generation, with_guesses: Generation) -> None:
    """All but the cost is the same."""
    usage = Usage(0, 0, 0, 0, 0, 0)
    assert replace(with_guesses, usage=usage) == replace(without, usage=usage)
    assert with_guesses.usage.completion_tokens == without.usage.completion_tokens


def consistent(llama: LlamaBridge) -> None:
    kv = machine(llama).kv
    assert kv.sequence.length == len(kv.tokens)
    assert not kv.owed or engine_of(llama).max_guesses == 0
