"""Where a grammar leaves no choice, tokens are appended without drawing them."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from ..engine import Engine
from ..errors import EngineError, InvalidInput
from ..grammar import Grammar
from ..kv_sequence import KvSequence
from ..structured.matcher import Matcher

__all__ = ["ForcedText"]


class ForcedText:
    """Follows an answer through its grammar.

    If the matcher and the engine ever disagreed, nothing more would be forced: the engine's own check always holds.

    Args:
        grammar: a grammar that is in force from the first token.
        engine: knows the vocabulary.
        sequence: where the answer is drawn.
        spell: tokens of a text inside an answer.
    """

    def __init__(
        self,
        grammar: Grammar,
        engine: Engine,
        sequence: KvSequence,
        spell: Callable[[str], list[int]],
    ) -> None:
        self._engine = engine
        self._sequence = sequence
        self._spell = spell
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._matcher: Matcher | None
        try:
            self._matcher = Matcher(grammar.text, grammar.root)
        except InvalidInput:  # it has elements that stand for tokens
            self._matcher = None

    def after(self, piece: bytes) -> list[int]:
        """The tokens that must follow once these bytes were said; the engine has accepted them.

        The last token of a forced text is left to be drawn, because what follows may belong into the same token.

        Raises:
            EngineError: the grammar reads what was said in too many ways, and llama.cpp would take memory and time for
                each of them; or an engine let bytes through that are not UTF-8.
        """
        try:
            return self._after(piece)
        except (UnicodeDecodeError, InvalidInput) as error:
            raise EngineError(
                f"the answer cannot follow the grammar any further: {error}"
            ) from error

    def _after(self, piece: bytes) -> list[int]:
        matcher = self._matcher
        if matcher is None or not self._follow(matcher, piece):
            return []
        if self._decoder.getstate()[0]:  # in the middle of a character
            return []
        text = matcher.forced()
        if len(text) < 2:
            return []
        tokens = self._spell(text)
        pieces = list(map(self._engine.token_bytes, tokens))
        if len(tokens) < 2 or b"".join(pieces) != text.encode():
            return []
        taken = self._sequence.accept(tokens[:-1])
        self._follow(matcher, b"".join(pieces[:taken]))
        return tokens[:taken]

    def _follow(self, matcher: Matcher, data: bytes) -> bool:
        """Let the matcher accept bytes; False, and no more matcher, if it refuses what the engine let through."""
        text = self._decoder.decode(data)
        if text and not matcher.accept(text):
            self._matcher = None
            return False
        return True
