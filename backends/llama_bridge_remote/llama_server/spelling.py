"""Messages to tokens: rendered here by the model's own chat template, tokenised by the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, cast

from llama_bridge.chat.form import ChatPrompt, ChatWish
from llama_bridge.chat.message import Message
from llama_bridge.chat.template import ChatTemplate
from llama_bridge.engine import Engine
from llama_bridge.errors import EngineError
from llama_bridge.local.spelling import Spelling
from llama_bridge.models.source import ModelFile
from llama_bridge.prompt import Piece, Prompt

from .facts import Facts
from .vocabulary import Vocabulary

__all__ = ["ServerSpelling"]

_Made = TypeVar("_Made")
_ROUNDS = 10
"""How often messages are rendered because control tokens showed that were not known."""


class ServerSpelling(Spelling):
    """Spells for the server's model.

    The server does not list its control tokens. Those that the template spells are found in it. Others show in the tokens
    of what was rendered: messages have spelled them, so they are rendered again, and none of them counts.

    Args:
        vocabulary: of the server's model.
        facts: what the server is.
    """

    def __init__(self, vocabulary: Vocabulary, facts: Facts) -> None:
        # Of its engine it uses the vocabulary alone, and of the model nothing but the template, which is here.
        super().__init__(cast("Engine", vocabulary), cast("ModelFile", None))
        self.vocabulary = vocabulary
        self._source = facts.chat_template
        self._ends = (facts.bos, facts.eos)
        self._known: frozenset[str] = frozenset(text for text in self._ends if text)
        if self._source is not None:
            self._known |= vocabulary.controls_in(self._source)
        self.template = self._made()

    def _made(self) -> ChatTemplate | None:
        if self._source is None:
            return None
        bos, eos = self._ends
        return ChatTemplate(self._source, bos=bos, eos=eos, controls=self._known)

    def _learn(self, text: str) -> None:
        """Find the control tokens that the template's text spells."""
        if found := self.vocabulary.controls_in(text, self._known):
            self._known |= found
            self.template = self._made()

    def _surely(self, make: Callable[[], _Made]) -> _Made:
        """Make it, and again if control tokens showed in it that were not known: messages may spell them.

        Raises:
            EngineError: the server finds others each time.
        """
        for _ in range(_ROUNDS):
            known = self._known
            made = make()
            if self._known is known:
                return made
        raise EngineError("the server finds other control tokens in the messages each time")

    def _spell(self, piece: Piece) -> list[int]:
        if piece.control:
            self._learn(piece.text)
        return super()._spell(piece)

    def _looked_at(self, prompt: Prompt) -> Prompt:
        for piece in prompt.pieces:
            if piece.control:
                self._learn(piece.text)
        return prompt

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Prompt:
        """See :meth:`Spelling.render`."""
        render = partial(super().render, messages, add_generation_prompt=add_generation_prompt)
        return self._surely(lambda: self._looked_at(render()))

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Spelling.ask`."""
        ask = partial(super().ask, messages, wish)

        def asked() -> ChatPrompt:
            made = ask()
            self._looked_at(made.prompt)
            return made

        return self._surely(asked)

    def chat_tokens(self, messages: Sequence[Message], *, after: Sequence[int] = ()) -> list[int]:
        """See :meth:`Spelling.chat_tokens`."""
        return self._surely(partial(super().chat_tokens, messages, after=after))

    def next_turn(self, messages: Sequence[Message], conversation: Sequence[int]) -> list[int]:
        """See :meth:`Spelling.next_turn`."""
        return self._surely(partial(super().next_turn, messages, conversation))
