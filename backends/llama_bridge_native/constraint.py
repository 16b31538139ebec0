"""Draws only what fits a grammar: the drawn token is checked first, and the vocabulary only if it does not fit."""

from __future__ import annotations

import codecs
import ctypes
import math
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from llama_bridge.errors import EngineError, InvalidInput
from llama_bridge.grammar import Grammar, TriggerWatch

from .candidates import Candidates, Tap
from .library import LoggedErrors, lib
from .token_tree import TokenTree

__all__ = ["Constraint", "Vocabulary"]

_FEW = 256
"""Candidates that are checked at once: about 20 µs."""
_BEST = 64
"""As many of the best tokens are tried before the whole vocabulary is checked."""
_SMALL = 10_000
_SEARCHES = 20
"""A large vocabulary is searched so often before a tree is made of it, which takes as long as 50 searches: 0.4 s."""
_MANY = 8000
"""Where more tokens than this may fit, llama.cpp checks the whole vocabulary, in C++."""
_TRIES = 4
"""So often another token is drawn instead of one that does not fit, before the whole vocabulary is checked."""

_EXCLUDES = re.compile(r"\[\^[^\]]*(?:\\x[89a-fA-F]|\\[uU]|[^\x00-\x7f])")
"""A class that excludes characters of several bytes: llama.cpp then refuses some of their first bytes alone."""


class Vocabulary:
    """What a constraint needs to know of a model, kept for the next one.

    Attributes:
        handle: llama.cpp's vocabulary.
        n_vocab: its size.
        ends: ids that end an answer.
        spell: the bytes of a token in the answer's text.
        spell_controls: the same, with control tokens spelled.
        tokenize: tokens of a text, with control tokens read.
    """

    def __init__(
        self,
        handle: Any,
        n_vocab: int,
        ends: frozenset[int],
        spell: Callable[[int], bytes],
        spell_controls: Callable[[int], bytes],
        tokenize: Callable[[str], list[int]],
    ) -> None:
        self.handle = handle
        self.n_vocab = n_vocab
        self.ends = ends
        self.spell = spell
        self.spell_controls = spell_controls
        self.tokenize = tokenize
        self._blank = Candidates.of(range(n_vocab)).cells
        self._searches = 0
        self._tree: TokenTree | None = None

    def row(self) -> Candidates:
        """A row of the whole vocabulary; a token's place is its id."""
        return Candidates(self._blank[:])

    def fitting(self, grammar: Any) -> array[int] | None:
        """All tokens that a grammar sampler lets through; None if there may be many, so that a row is the shorter way."""
        if self._tree is None:
            self._searches += 1
            if self.n_vocab > _SMALL and self._searches <= _SEARCHES:
                return None
            self._tree = TokenTree(self.n_vocab, self.ends, self.spell_controls)
        return self._tree.fitting(grammar, _MANY)


class _State:
    """llama.cpp's grammar sampler, and the bytes of a character that is not complete.

    Without a check, llama.cpp ends the process for a token that does not fit: :meth:`fits` comes before
    :meth:`accept`.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._controls = grammar.controls or grammar.lazy
        self._open = b""
        self._one = Candidates.of([0])
        with LoggedErrors() as errors:
            self.sampler = lib.llama_sampler_init_grammar(
                vocabulary.handle, grammar.text.encode(), grammar.root.encode()
            )
            errors.reraise()
        if not self.sampler:
            self.sampler = None
            raise InvalidInput(f"grammar={grammar.text[:200]!r}: llama.cpp refuses it: {errors}")

    def fits(self, token: int) -> bool:
        """Whether the token may come next."""
        one = self._one
        cells = one.cells
        cells[0], cells[1] = token, 0
        one.apply(self.sampler)
        return cells[1] == 0 and self.is_text(token)

    def is_text(self, token: int) -> bool:
        """Whether the token, which the grammar accepts, is that text in the answer too."""
        if token in self._vocabulary.ends:
            return not self._open
        piece = self._vocabulary.spell(token)
        if not piece:  # a control token: the grammar knows only its spelling
            return self._controls and not self._open
        return (not self._open and piece.isascii()) or _open_end(self._open + piece) is not None

    def accept(self, token: int) -> None:
        """Add a token that fits."""
        if token not in self._vocabulary.ends:
            piece = self._vocabulary.spell(token)
            if self._open or not piece.isascii():
                self._open = _open_end(self._open + piece) or b""
        lib.llama_sampler_accept(self.sampler, token)

    def accept_all(self, tokens: Sequence[int]) -> bool:
        """Add tokens as long as they fit; returns whether all did."""
        for token in tokens:
            if not self.fits(token):
                return False
            self.accept(token)
        return True

    def close(self) -> None:
        sampler, self.sampler = self.sampler, None
        if sampler is not None:
            lib.llama_sampler_free(sampler)

    __del__ = close


def _open_end(data: bytes) -> bytes | None:
    """The bytes of a character that is not complete, at the end of a text; None if it is no UTF-8."""
    try:
        return data[codecs.utf_8_decode(data)[1] :]
    except UnicodeDecodeError:
        return None


class Constraint:
    """Makes a sampler chain draw only what fits a grammar.

    Args:
        grammar: the grammar.
        vocabulary: the model's vocabulary.
        chain: the chain, whose last sampler draws; a tap is added after it.
        greedy: whether it takes the best token.
        logits: the logits that the chain draws from.

    Raises:
        InvalidInput: llama.cpp refuses the grammar.
    """

    def __init__(
        self,
        grammar: Grammar,
        vocabulary: Vocabulary,
        chain: Any,
        greedy: bool,
        logits: Callable[[], memoryview[float]],
    ) -> None:
        from llama_bridge.structured.gbnf import read_grammar  # 60 ms, for those who give a grammar

        self._grammar = grammar
        self._vocabulary = vocabulary
        self._logits = logits
        self._state = _State(grammar, vocabulary)
        self._watch: TriggerWatch | None = None
        if grammar.lazy:
            self._watch = TriggerWatch(grammar, vocabulary.spell_controls)
        self._begun: _State | None = None  # what a trigger just begun would need
        n = int(lib.llama_sampler_chain_n(chain))
        self._samplers = [lib.llama_sampler_chain_get(chain, i) for i in range(n)]
        self._greedy = greedy
        self._best = lib.llama_sampler_init_top_k(_BEST) if greedy else None
        # In these two cases a token can fit although the beginning of its text does not.
        self._has_beginnings = not (
            read_grammar(grammar.text, grammar.root).has_tokens or _EXCLUDES.search(grammar.text)
        )
        self._drawn_from: Candidates | None = None  # llama.cpp reads it after the tap
        self._tap = Tap(self._choose)
        lib.llama_sampler_chain_add(chain, self._tap.sampler())

    # from the engine

    def begin(self) -> None:
        """The chain is about to draw a token for :meth:`settle`."""
        self._tap.begin()

    def settle(self, token: int) -> None:
        """Accept a token that the chain has drawn.

        Raises:
            EngineError: no token fits.
            KeyboardInterrupt: the token was not checked.
        """
        self._tap.reraise()
        self._accept(token)

    def accept(self, tokens: Sequence[int]) -> int:
        """Accept tokens that were not drawn, as long as they fit; returns how many did."""
        for i, token in enumerate(tokens):
            if not self._may_follow(token):
                return i
            self._accept(token)
        return len(tokens)

    def close(self) -> None:
        """Free the grammar. The chain is freed by its owner, and first."""
        self._state.close()
        best, self._best = self._best, None
        if best is not None:
            lib.llama_sampler_free(best)

    def _accept(self, token: int) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            self._state.close()
            self._state, self._watch = begun, None
        elif self._watch is not None:
            self._watch.accept(token)
        else:
            self._state.accept(token)

    def _may_follow(self, token: int) -> bool:
        """Whether a token may come next. After a trigger, :attr:`_begun` is the state that follows."""
        if self._watch is None:
            return self._state.fits(token)
        self._begun = None
        said = self._watch.begins(token)
        if said is None:
            return True
        rest, tokens = said
        begun = _State(self._grammar, self._vocabulary)
        spelled = self._vocabulary.tokenize(rest.decode("utf-8", "replace")) if rest else []
        exact = b"".join(map(self._vocabulary.spell_controls, spelled)) == rest
        if not exact or not begun.accept_all([*spelled, *tokens]):
            begun.close()
            return False
        self._begun = begun
        return True

    # from inside llama_sampler_sample

    def _choose(self, row: Any) -> None:
        """Let the drawn token through, or put another in its place."""
        refused = row.data[row.selected].id
        if self._may_follow(refused):
            return
        if self._watch is not None:
            drawn = self._draw_from_all({refused})
        elif not self._draw_from_few(row):
            drawn = self._draw_from_all(set())
        else:
            return
        row.data, row.size, row.selected = drawn.data, drawn.size, drawn.selected

    def _draw_from_few(self, row: Any) -> bool:
        """Draw again from the tokens that the other samplers left; False if none of them fits."""
        drawer = self._samplers[-1]
        if self._best is not None and row.size > _FEW:
            lib.llama_sampler_apply(self._best, ctypes.byref(row))
        for _ in range(_TRIES if row.size > _FEW else 0):
            row.data[row.selected].logit = -math.inf
            row.sorted = False
            lib.llama_sampler_apply(drawer, ctypes.byref(row))
            chosen = row.data[row.selected]
            if chosen.logit == -math.inf:
                return False
            if self._state.fits(chosen.id):
                return True
        if row.size > _FEW or not self._keep_fitting(row):
            return False
        lib.llama_sampler_apply(drawer, ctypes.byref(row))
        return bool(row.data[row.selected].logit != -math.inf)

    def _keep_fitting(self, row: Any) -> bool:
        """Leave only the candidates that fit; False if there are none."""
        n = row.size
        cells = memoryview(
            (ctypes.c_int32 * (3 * n)).from_address(ctypes.addressof(row.data.contents))
        )
        cells = cells.cast("B").cast("i")
        tokens = cells[0::3].tolist()
        few = Candidates.of(tokens)
        few.apply(self._state.sampler)
        kept = 0
        for i, token in enumerate(tokens):
            if few.cells[3 * i + 1] == 0 and self._state.is_text(token):
                cells[3 * kept : 3 * kept + 3] = cells[3 * i : 3 * i + 3]
                kept += 1
        row.size = kept
        return bool(kept)

    def _draw_from_all(self, refused: set[int]) -> Any:
        """Draw from the whole vocabulary without what does not fit; returns the row.

        Raises:
            EngineError: nothing fits.
        """
        while True:
            candidates = self._drawn_from = self._all_fitting(refused)
            row = candidates.address.contents
            if row.size == 0:
                raise _none_left()
            for sampler in self._samplers:
                candidates.apply(sampler)
            chosen = row.data[row.selected]
            if chosen.logit == -math.inf:
                raise _none_left()
            if self._may_follow(chosen.id):
                return row
            refused.add(chosen.id)  # a control token, or no UTF-8

    def _all_fitting(self, refused: set[int]) -> Candidates:
        """What the grammar lets through, with its logits; other tokens have none or are not there."""
        vocabulary, state, logits = self._vocabulary, self._state, self._logits()
        if self._watch is None and self._has_beginnings:
            found = vocabulary.fitting(state.sampler)
            if found is not None:
                left = [token for token in found if token not in refused and state.is_text(token)]
                candidates = Candidates.of(left)
                candidates.set_logits(array("f", map(logits.__getitem__, left)))
                return candidates
        candidates = vocabulary.row()
        candidates.set_logits(logits)
        if self._watch is None:
            candidates.apply(state.sampler)
        floats = candidates.floats
        for token in refused:
            floats[3 * token + 1] = -math.inf
        return candidates


def _none_left() -> EngineError:
    return EngineError("no token is left: the grammar and logit_bias allow none that the model has")
