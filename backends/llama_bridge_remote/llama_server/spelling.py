"""Messages to tokens: rendered here by the model's own chat template, tokenised by the server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from llama_bridge.chat.form import ChatPrompt, ChatWish
from llama_bridge.chat.message import Message
from llama_bridge.chat.template import ChatTemplate
from llama_bridge.engine import Engine
from llama_bridge.local.spelling import Spelling
from llama_bridge.models.source import ModelFile
from llama_bridge.prompt import Prompt

from .facts import Facts
from .vocabulary import Vocabulary

__all__ = ["ServerSpelling"]


class ServerSpelling(Spelling):
    """Spells for the server's model.

    The server does not list its control tokens. Those that the template spells are found in it; those that messages
    spell are found before they are rendered, so that none of them counts.

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

    def _learn(self, *said: object) -> None:
        """Find the control tokens that something spells."""
        found = self.vocabulary.controls_in("\n".join(text for one in said for text in _texts(one)))
        if not found <= self._known:
            self._known |= found
            self.template = self._made()

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Prompt:
        """See :meth:`Spelling.render`."""
        self._learn(messages)
        return super().render(messages, add_generation_prompt=add_generation_prompt)

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Spelling.ask`."""
        self._learn(messages, [tool.spec for tool in wish.tools])
        return super().ask(messages, wish)

    def chat_tokens(self, messages: Sequence[Message], *, after: Sequence[int] = ()) -> list[int]:
        """See :meth:`Spelling.chat_tokens`."""
        self._learn(messages)
        return super().chat_tokens(messages, after=after)

    def next_turn(self, messages: Sequence[Message], conversation: Sequence[int]) -> list[int]:
        """See :meth:`Spelling.next_turn`."""
        self._learn(messages[-1:])
        return super().next_turn(messages, conversation)


def _texts(value: object) -> list[str]:
    """All texts in a JSON value; in JSON text, those that it stands for too."""
    if isinstance(value, str):
        if "\\" in value and value[:1] in "{[":
            try:
                return [value, *_texts(json.loads(value))]
            except (ValueError, RecursionError):
                return [value]
        return [value]
    if isinstance(value, Mapping):
        items = cast("Iterable[tuple[object, object]]", value.items())  # pyright: ignore[reportUnknownMemberType]
        return [text for key, each in items for text in (*_texts(key), *_texts(each))]
    if isinstance(value, list | tuple):
        return [text for each in cast("Sequence[Any]", value) for text in _texts(each)]
    return []
