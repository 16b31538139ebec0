"""A grammar that is in force only from a trigger on: until then each token is drawn, looked at, and accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from llama_bridge.errors import EngineError
from llama_bridge.grammar import Grammar, TriggerWatch

from ..abi import Accept

__all__ = ["LazyGrammar"]


class _Drawer(Protocol):
    def draw(self, refused: Sequence[int]) -> int: ...

    def accept_tokens(self, tokens: Sequence[int], by: Accept = Accept.ALL) -> int: ...

    def set_grammar(self, grammar: Grammar | None, said: bytes = b"") -> bool: ...


class LazyGrammar:
    """Waits for a trigger.

    Args:
        grammar: a lazy one.
        drawer: the sequence that draws.
        spell: the bytes of a token, also of a control token.

    Attributes:
        waits: whether no trigger has come yet.
    """

    def __init__(self, grammar: Grammar, drawer: _Drawer, spell: Callable[[int], bytes]) -> None:
        self._grammar = grammar
        self._drawer = drawer
        self._watch = TriggerWatch(grammar, spell)
        self.waits = True

    def draw(self) -> int:
        """Draw and accept a token."""
        refused: list[int] = []
        while True:
            token = self._drawer.draw(refused)
            if self._may_follow(token):
                self._accept(token)
                return token
            if token in refused:
                raise EngineError("llama.wasm draws a token that it was not to draw")
            refused.append(token)

    def accept(self, tokens: Sequence[int]) -> int:
        """Accept tokens that were not drawn; returns how many fit."""
        for i, token in enumerate(tokens):
            if not self._may_follow(token):
                return i
            self._accept(token)
        return len(tokens)

    def _may_follow(self, token: int) -> bool:
        """Whether a token may come next. If a trigger comes with it, the grammar is in force, and has accepted it."""
        drawer = self._drawer
        if not self.waits:
            return drawer.accept_tokens([token], Accept.GRAMMAR) == 1
        said = self._watch.begins(token)
        if said is None:
            return True
        rest, tokens = said
        fits = drawer.set_grammar(self._grammar, rest)
        if not fits or drawer.accept_tokens(tokens, Accept.GRAMMAR) < len(tokens):
            drawer.set_grammar(None)
            return False
        self.waits = False
        return True

    def _accept(self, token: int) -> None:
        self._drawer.accept_tokens([token], Accept.SAMPLERS)
        if self.waits:
            self._watch.accept(token)
