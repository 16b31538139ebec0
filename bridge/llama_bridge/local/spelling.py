"""Messages and texts to tokens, by the model's vocabulary and chat template. It changes nothing and knows no conversation."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import cast

from ..chat.form import ChatPrompt, ChatWish
from ..chat.message import Message
from ..chat.template import ChatTemplate
from ..checks import shown
from ..engine import Engine
from ..errors import ContextOverflow, EngineError, InvalidInput, TemplateError
from ..models.control_tokens import control_texts, looks_like_control
from ..models.source import ModelFile
from ..params import SamplingParams
from ..prompt import Piece, Prompt
from ..snapshot import Snapshot, TurnMark

__all__ = ["Spelling"]

_LEAD = "\n"
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
"""Roles that a template may write as a control token: ``<|user|>``. No other can pick one."""

_LOOKS = re.compile("<[|｜]")
_LONG = 1 << 17
"""Characters that take long to tokenise: a tenth of a second."""


class Spelling:
    """Spells for one model. From any thread, as far as its engine's vocabulary can be used from any.

    Args:
        engine: knows the vocabulary.
        model: the model that runs on it.
    """

    def __init__(self, engine: Engine, model: ModelFile) -> None:
        self.engine = engine
        self.model = model

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The model's chat template, or None."""
        source, info = self.model.chat_template, self.engine.info
        if source is None:
            return None
        bos, eos = (
            "" if t is None else self.engine.token_bytes(t, special=True).decode("utf-8", "replace")
            for t in (info.bos, info.eos)
        )
        ends = (self.engine.token_bytes(t, special=True) for t in info.end_of_generation)
        try:
            controls = control_texts(self.model)
        except (
            Exception
        ):  # a page opens a kept model only while it is loaded: ask the engine, which takes longer
            spelled = (
                self.engine.token_bytes(t, special=True)
                for t in range(info.n_vocab)
                if not (text := self.engine.token_bytes(t)) or looks_like_control(text)
            )
            controls = frozenset(text.decode("utf-8", "replace") for text in spelled)
        controls |= {end.decode("utf-8", "replace") for end in ends}
        return ChatTemplate(source, bos=bos, eos=eos, controls=controls)

    def plan_messages(self, messages: Sequence[Message]) -> Snapshot:
        """A conversation rendered for this model, turn by turn; all of its tokens are owed.

        Raises:
            TemplateError: there is no template, or it refuses the messages.
        """
        tokens: list[int] = []
        turns: list[TurnMark] = []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                said = messages[:i]
                prompt = self.next_turn(said, tokens) if turns else self.chat_tokens(said)
                turns.append(
                    TurnMark(len(tokens), len(tokens) + len(prompt), i - 1 if turns else 0)
                )
                tokens += prompt
                # The end of the turn comes with the next one, as after an answer that was cut short.
                tokens += self.tokenize(Prompt.text(message["content"]), after=tokens)
        return Snapshot(tuple(tokens), 0, tuple(messages), tuple(turns))

    def check_room(self, tokens: Sequence[int], *, held: int = 0) -> None:
        """Refuse a prompt without tokens, or one that does not fit behind so many others.

        Raises:
            InvalidInput, ContextOverflow.
        """
        if not tokens:
            raise InvalidInput("prompt has no tokens: give some text")
        needed = held + len(tokens) + 1
        if needed > self.engine.info.n_ctx:
            raise ContextOverflow(needed, self.engine.info.n_ctx)

    def _require_template(self) -> ChatTemplate:
        if self.template is None:
            raise TemplateError("this model has no chat template: pass chat=False for raw text")
        return self.template

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Prompt:
        """Render messages with the model's own template. Their text never becomes a control token.

        Raises:
            InvalidInput: a role is not a word, or is a part of a control token.
            TemplateError.
        """
        self._check_roles(messages)
        return self._require_template().prompt(
            messages, add_generation_prompt=add_generation_prompt
        )

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """Render a chat for an answer that will be read; raises as :meth:`render` does."""
        self._check_roles(messages)
        with self._fitting(messages):
            return self._require_template().chat(messages, wish)

    @contextlib.contextmanager
    def _fitting(self, messages: Sequence[Message]) -> Generator[None]:
        """Texts that were too large even for the template are too long for the context."""
        try:
            yield
        except (TemplateError, EngineError) as error:
            texts = (text for message in messages for text in _texts(message))
            least, n_ctx = sum(map(self.engine.least_tokens, texts)) + 1, self.engine.info.n_ctx
            if least <= n_ctx:
                raise
            raise ContextOverflow(least, n_ctx, at_least=True) from error

    def _check_roles(self, messages: Sequence[Message]) -> None:
        template = self._require_template()
        for i, message in enumerate(messages):
            role = message["role"]
            named = role not in _ROLES and any(role in text for text in template.controls)
            if named or not re.fullmatch(r"[\w-]{1,64}", role):
                raise InvalidInput(
                    f"messages[{i}]: the role {shown(role)} cannot be used: give 'system', 'user' or 'assistant'"
                )

    def chat_tokens(self, messages: Sequence[Message], *, after: Sequence[int] = ()) -> list[int]:
        """Tokens of a chat, which may follow raw text."""
        with self._fitting(messages):
            prompt, info = self._require_template().prompt(messages), self.engine.info
        if not after:
            return self.turn_tokens(prompt)
        tokens = self.turn_tokens(prompt, after=after, dropped=1)
        return tokens[1:] if info.bos is not None and tokens[:1] == [info.bos] else tokens

    def next_turn(self, messages: Sequence[Message], conversation: Sequence[int]) -> list[int]:
        """Tokens of the last message, a user's, to append to a conversation that ends with an answer."""
        with self._fitting(messages):
            between, continuation = self._require_template().next_turn(messages)
        ends, dropped = self.engine.info.end_of_generation, 0
        if conversation[-1] in ends:
            # The model ended its turn itself: only the template's tokens after that end are new.
            closing = self.tokenize(between, after=conversation)
            dropped = next((i + 1 for i, token in enumerate(closing) if token in ends), 0)
        return self.turn_tokens(continuation, after=conversation, dropped=dropped)[dropped:]

    def turn_tokens(
        self, prompt: Prompt, *, after: Sequence[int] = (), dropped: int = 0
    ) -> list[int]:
        """Tokens of a turn, the first of which may be dropped.

        Raises:
            ContextOverflow: they certainly do not fit, known without tokenising, which takes a second per megabyte.
        """
        if sum(len(piece.text) for piece in prompt.pieces) > _LONG:
            least = sum(self.engine.least_tokens(piece.text) for piece in prompt.pieces)
            needed, n_ctx = len(after) + least - dropped + 1, self.engine.info.n_ctx
            if needed > n_ctx:
                raise ContextOverflow(needed, n_ctx, at_least=True)
        return self.tokenize(prompt, after=after)

    def _spell(self, piece: Piece) -> list[int]:
        return self.engine.tokenize(piece.text, add_special=False, parse_special=piece.control)

    def tokenize(self, prompt: Prompt, *, after: Sequence[int] = ()) -> list[int]:
        """Tokens of a prompt that follows the tokens in ``after``.

        If the model expects a BOS, a conversation begins with exactly one.
        """
        info = self.engine.info
        tokens: list[int] = []
        for piece in (part for whole in prompt.pieces for part in self._parts(whole)):
            before = tokens[-1] if tokens else after[-1] if after else None
            # After a control token, text is tokenised as at the start of a conversation.
            if before is None or not self.engine.token_bytes(before):
                tokens += self._spell(piece)
            else:
                tokens += self._spell_inside(piece)
        if not after and info.add_bos and info.bos is not None and tokens[:1] != [info.bos]:
            return [info.bos, *tokens]
        return tokens

    def _parts(self, piece: Piece) -> list[Piece]:
        """Text in parts, so that no part spells a control token that the model's file calls a word of the user's."""
        if piece.control or _LOOKS.search(piece.text) is None:
            return [piece]
        spelled = set(map(self.engine.token_bytes, self._spell(piece)))
        words = [word.decode("utf-8", "replace") for word in spelled if looks_like_control(word)]
        if not words:
            return [piece]
        # Each is cut behind its first letter.
        cut = "|".join(f"(?<={re.escape(word[0])})(?={re.escape(word[1:])})" for word in words)
        return [Piece(text) for text in re.split(cut, piece.text) if text]

    def _spell_inside(self, piece: Piece) -> list[int]:
        """Tokens of text that continues other text.

        SentencePiece models put a space before the first text, but not after a line break. So the text is tokenised
        after a line break, which is then removed.
        """
        plain = self._spell(piece)
        if not plain or not self._puts_space_first:
            return plain
        lead = self._spell(Piece(_LEAD))
        whole = self._spell(Piece(_LEAD + piece.text, piece.control))
        return whole[len(lead) :] if whole[: len(lead)] == lead else plain

    def spell(self, text: str) -> list[int]:
        """Tokens of a text inside an answer."""
        return self._spell_inside(Piece(text))

    def by_ids(self, sampling: SamplingParams) -> SamplingParams:
        """The same sampling with token ids in ``logit_bias`` in place of texts.

        Raises:
            InvalidInput: a text is not exactly one token, or there is no such token.
        """
        if not sampling.logit_bias:
            return sampling
        n_vocab = self.engine.info.n_vocab
        bias: dict[int | str, float] = {}
        for given, value in sampling.logit_bias.items():
            token = given
            if isinstance(given, str):
                tokens = self.spell(given)
                if len(tokens) != 1 or self.engine.token_bytes(tokens[0]) != given.encode():
                    raise InvalidInput(
                        f"logit_bias has {shown(given)}: that is {len(tokens)} tokens, not one: give token ids"
                    )
                token = tokens[0]
            elif given >= n_vocab:
                raise InvalidInput(
                    f"logit_bias has {shown(given)}: no such token; ids go from 0 to {n_vocab - 1}"
                )
            bias[token] = bias.get(token, 0.0) + value
        return replace(sampling, logit_bias=bias)

    @cached_property
    def _puts_space_first(self) -> bool:
        tokens = self._spell(Piece("a"))
        return b"".join(map(self.engine.token_bytes, tokens)).startswith(b" ")


def _texts(message: Message) -> Iterable[str]:
    """The texts in a message's content."""
    content: object = message["content"]
    if isinstance(content, str):
        return [content]
    return [str(part["text"]) for part in cast("Sequence[Mapping[str, object]]", content or ())]
