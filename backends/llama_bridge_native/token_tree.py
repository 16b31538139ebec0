"""The vocabulary as a tree of beginnings, so that a grammar has to look at a small part of it only."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from .candidates import Candidates

__all__ = ["TokenTree"]


class TokenTree:
    """Which token's text begins with which other token's.

    If a grammar rules out a token, it rules out all whose text begins with it. So after the tokens that begin with no
    other, only those are checked that follow one which fits.

    Args:
        n_vocab: size of the vocabulary.
        ends: ids that end an answer. They have no text.
        spell: the bytes of a token, with control tokens spelled.
    """

    def __init__(self, n_vocab: int, ends: frozenset[int], spell: Callable[[int], bytes]) -> None:
        texts = [spell(token) for token in range(n_vocab)]
        order = sorted(
            (t for t in range(n_vocab) if texts[t] and t not in ends), key=texts.__getitem__
        )
        first = array("i", sorted(ends))
        children: dict[int, array[int]] = {}
        path: list[int] = []  # tokens of which each begins the next
        for token in order:
            text = texts[token]
            while path and not text.startswith(texts[path[-1]]):
                path.pop()
            if path:
                children.setdefault(path[-1], array("i")).append(token)
            else:
                first.append(token)
            path.append(token)
        self._first = first
        self._children = children

    def fitting(self, grammar: Any, most: int) -> array[int] | None:
        """All tokens that a grammar sampler lets through; None if more than ``most`` had to be checked."""
        found = array("i")
        front = self._first
        checked = 0
        while front:
            checked += len(front)
            if checked > most:
                return None
            row = Candidates.of(front)
            row.apply(grammar)
            fits = row.left()
            found.extend(fits)
            front = array("i")
            for token in fits:
                if (following := self._children.get(token)) is not None:
                    front += following
        return found
