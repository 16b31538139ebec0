"""The conversation that has the KV cache: turns to tokens, tokens through the ledger, answers into the conversation."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from ..capabilities import Capability
from ..chat.form import ChatPrompt, ChatWish
from ..chat.message import Message
from ..chat.template import ChatTemplate
from ..checks import shown
from ..engine import Engine, MemoryKind
from ..errors import ContextOverflow, EngineError, InvalidInput, TemplateError
from ..generation import Fallback, FinishReason, Generation, Mode
from ..models.control_tokens import control_texts, looks_like_control
from ..models.source import ModelFile
from ..params import SamplingParams
from ..prompt import Piece, Prompt
from ..request import Request
from ..snapshot import Snapshot, TurnMark
from .ledger import KvLedger
from .token_loop import TokenLoop

if TYPE_CHECKING:
    from ..files.manifest import MadeWith

__all__ = ["Active", "RunningTurn", "Turn"]

_LEAD = "\n"
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
"""Roles that a template may write as a control token: ``<|user|>``. No other can pick one."""

_LOOKS = re.compile("<[|｜]")
_LONG = 1 << 17
"""Characters that take long to tokenise: a tenth of a second."""


class Active:
    """The conversation that an engine's KV cache holds.

    Attributes:
        engine: the engine that owns the cache.
        model: the model that runs on it.
        kv: token ledger and cache.
        messages: what was said, if the prompts were chat turns.
        turns: where each turn is in the conversation.
        sampling: how the last answer was drawn, if there is one.
    """

    def __init__(self, engine: Engine, model: ModelFile) -> None:
        self.sampling: SamplingParams | None = None
        self.engine = engine
        self.model = model
        self.kv = KvLedger(engine)
        self.messages: list[Message] = []
        self.turns: list[TurnMark] = []

    @property
    def exists(self) -> bool:
        """Whether there is anything to continue or save."""
        return bool(self.kv.tokens or self.kv.owed)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ledger: exactly what the KV cache holds."""
        return tuple(self.kv.tokens)

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

    @property
    def made_with(self) -> MadeWith:
        """What its KV cache was made with, as recorded in a session file."""
        from ..files.manifest import MadeWith  # 8 ms with json: only files need it

        engine = self.engine
        return MadeWith(self.model, engine.info, engine.backend, engine.state_prefix)

    # planning: nothing here changes the session

    def plan(self, request: Request) -> Turn:
        """The turn that a request asks for.

        Raises:
            InvalidInput, TemplateError, ContextOverflow.
        """
        if request.prompt is None:
            return self.plan_again()
        if request.told:
            tokens = self._turn_tokens(Prompt.of(request.prompt))
            self._check(tokens, held=0)
            return Turn(tokens, True, [Message(message) for message in request.told])
        if not request.continues:
            return self.plan_fresh(
                request.prompt, chat=request.chat, system=request.system, fallback=request.fallback
            )
        if self.exists:
            return self.plan_continue(request.prompt, chat=request.chat)
        return self.plan_fresh(
            request.prompt, chat=request.chat, system=request.system, fallback=Fallback.NO_SESSION
        )

    def plan_fresh(
        self,
        prompt: str | Prompt,
        *,
        chat: bool,
        system: str | None = None,
        fallback: Fallback | None = None,
    ) -> Turn:
        """A turn that starts a new conversation.

        Raises:
            InvalidInput, TemplateError, ContextOverflow.
        """
        messages: list[Message] = []
        if chat:
            if system is not None:
                messages.append(Message(role="system", content=system))
            messages.append(Message(role="user", content=str(prompt)))
            tokens = self._render(messages)
        else:
            tokens = self._turn_tokens(Prompt.of(prompt))
        self._check(tokens, held=0)
        return Turn(tokens, True, messages, fallback)

    def plan_continue(self, prompt: str | Prompt, *, chat: bool) -> Turn:
        """A turn that continues the conversation.

        Raises:
            InvalidInput, TemplateError, ContextOverflow.
        """
        messages: list[Message] = []
        if not chat:
            tokens = self._turn_tokens(Prompt.of(prompt), after=self.kv.conversation)
        elif self.messages and self.messages[-1]["role"] == "assistant":
            messages = [*self.messages, Message(role="user", content=str(prompt))]
            tokens = self._next_turn(messages, self.kv.conversation)
        else:  # raw text so far: append the first chat turn as the template renders it
            messages = [Message(role="user", content=str(prompt))]
            tokens = self._render(messages, first=False)
        self._check(tokens, held=len(self.kv.conversation))
        return Turn(tokens, False, messages)

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
                prompt = self._next_turn(said, tokens) if turns else self._render(said)
                turns.append(
                    TurnMark(len(tokens), len(tokens) + len(prompt), i - 1 if turns else 0)
                )
                tokens += prompt
                # The end of the turn comes with the next one, as after an answer that was cut short.
                tokens += self.tokenize(Prompt.text(message["content"]), after=tokens)
        return Snapshot(tuple(tokens), 0, tuple(messages), tuple(turns))

    def _check(self, tokens: list[int], held: int) -> None:
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

    def _render(self, messages: Sequence[Message], *, first: bool = True) -> list[int]:
        with self._fitting(messages):
            prompt, info = self._require_template().prompt(messages), self.engine.info
        if first:
            return self._turn_tokens(prompt)
        tokens = self._turn_tokens(prompt, after=self.kv.conversation, dropped=1)
        return tokens[1:] if info.bos is not None and tokens[:1] == [info.bos] else tokens

    def _next_turn(self, messages: Sequence[Message], conversation: Sequence[int]) -> list[int]:
        """Tokens of the last message, a user's, to append to a conversation that ends with an answer."""
        with self._fitting(messages):
            between, continuation = self._require_template().next_turn(messages)
        ends, dropped = self.engine.info.end_of_generation, 0
        if conversation[-1] in ends:
            # The model ended its turn itself: only the template's tokens after that end are new.
            closing = self.tokenize(between, after=conversation)
            dropped = next((i + 1 for i, token in enumerate(closing) if token in ends), 0)
        return self._turn_tokens(continuation, after=conversation, dropped=dropped)[dropped:]

    def _turn_tokens(
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

    # doing

    def reset(self) -> None:
        """Forget the conversation and empty the KV cache."""
        self.messages, self.turns = [], []
        self.kv.clear()

    def snapshot(self) -> Snapshot:
        """The conversation with a copy of its KV cache, if the engine can give one."""
        self.kv.check()
        copies = Capability.SESSION_PERSISTENCE in self.engine.capabilities
        state = self.engine.state_get() if copies and self.kv.tokens else None
        return self.bare_snapshot(state)

    def bare_snapshot(self, state: memoryview | None = None) -> Snapshot:
        """The conversation without its KV cache, or with the given copy of it."""
        return Snapshot(
            tokens=tuple(self.kv.conversation),
            held=0 if state is None else len(self.kv.tokens),
            messages=tuple(self.messages),
            turns=tuple(self.turns),
            state=state,
            origin=self.kv.origin,
            sampling=self.sampling,
            adapters=self.engine.info.adapters,
        )

    def branch(self) -> Snapshot:
        """A second conversation with the same past.

        A dense cache needs no copy: it is rewound to the common past when the branch is used.
        """
        if self.engine.info.memory is MemoryKind.DENSE:
            return self.bare_snapshot()
        return self.snapshot()

    def restore(self, snapshot: Snapshot) -> bool:
        """Make a snapshot the conversation. False, with nothing lost, if the engine refuses its state.

        A state that was computed with other adapters is left out: its tokens are owed.
        """
        snapshot = self.usable(snapshot)
        state, tokens, held = snapshot.state, snapshot.tokens, snapshot.held
        if state is None:
            self.kv.aim(tokens, snapshot.origin)
        elif not self.kv.replace(lambda: self.engine.state_set(state, tokens[:held]), tokens, held):
            return False
        else:
            self.kv.origin = snapshot.origin
        self.messages, self.turns = list(snapshot.messages), list(snapshot.turns)
        self.sampling = snapshot.sampling
        return True

    def usable(self, snapshot: Snapshot) -> Snapshot:
        """The same conversation, without a state that was computed with other adapters."""
        return snapshot if snapshot.adapters == self.engine.info.adapters else snapshot.bare()

    def adopt(self, tokens: Sequence[int], state: memoryview) -> bool:
        """Make a state without a manifest the conversation, as raw text.

        Only the engine knows how many of the tokens it holds; the rest are owed. False if the engine refuses
        it or holds more than the tokens; the previous conversation is then owed.
        """
        held = self.engine.state_length(state)
        if not 0 < held <= len(tokens) or not self.kv.replace(
            lambda: self.engine.state_set(state, tokens[:held]), tokens, held
        ):
            return False
        self.kv.origin = object()
        self.messages, self.turns = [], []
        return True

    def rewind(self, turns: int) -> None:
        """Undo the last turns, question and answer.

        Raises:
            InvalidInput: there are fewer turns.
        """
        if turns < 1 or turns > len(self.turns):
            raise InvalidInput(
                f"turns={shown(turns)}: the session has only {len(self.turns)} to undo"
            )
        mark = self.turns[-turns]
        self.kv.rewind(mark.start)
        self.messages = self.messages[: mark.n_messages]
        del self.turns[-turns:]

    def plan_again(self) -> Turn:
        """A turn that answers the last prompt again. All but its last token may stay in the cache.

        Raises:
            InvalidInput: nothing was asked yet.
        """
        if not self.turns:
            raise InvalidInput("there is no answer to regenerate: generate something first")
        mark = self.turns[-1]
        conversation = self.kv.conversation
        messages = self.messages[:-1] if len(self.messages) > mark.n_messages else []
        last = conversation[mark.prompt_end - 1 : mark.prompt_end]
        return Turn(last, False, messages, again=mark)

    def make_way(self, turn: Turn) -> list[int]:
        """Remove what the turn replaces from conversation and cache; returns the tokens to append.

        If the engine can, a fresh prompt keeps its beginning in the cache, up to its last token: decoding that one
        gives the logits.
        """
        if turn.again is not None:
            self.kv.rewind(turn.again.prompt_end - 1)
            self.turns.pop()
            self.messages = self.messages[: turn.again.n_messages]
        elif turn.fresh:
            self.messages, self.turns = [], []
            if Capability.PREFIX_CACHE in self.engine.capabilities:
                self.kv.aim(turn.tokens[:-1])
                return turn.tokens[-1:]
            self.kv.clear()
        return turn.tokens


@dataclass(frozen=True, slots=True)
class Turn:
    """A checked and tokenised prompt, ready to be evaluated.

    Attributes:
        tokens: tokens to append to the conversation; the whole prompt if ``fresh``.
        fresh: whether it starts a new conversation.
        messages: the conversation up to and including this prompt; empty for raw text.
        fallback: why a continuation runs fresh, or None.
        again: the turn that is answered again, or None.
    """

    tokens: list[int]
    fresh: bool
    messages: list[Message]
    fallback: Fallback | None = None
    again: TurnMark | None = None


class RunningTurn:
    """A turn in progress: evaluated and answered piece by piece, for any caller.

    After a cancel, what was said stays in the conversation. If the turn failed, or was cancelled before anything was
    said, the conversation is as it was before the turn, or empty if the turn was fresh.

    Attributes:
        texts: text that was generated but not read yet.
        generation: the whole answer, once it is in the conversation.
        error: the error it failed with, or None.
        told: whether the reader has received that error.
    """

    def __init__(self, active: Active, turn: Turn, request: Request) -> None:
        self.texts: deque[str] = deque()
        self.generation: Generation | None = None
        self.error: BaseException | None = None
        self.told = False
        self._active = active
        self._turn = turn
        self._sampling = request.sampling
        self._reads = request.reads
        self._loop = TokenLoop(active.kv, request, active.by_ids(request.sampling), active.spell)
        self._before: Snapshot | None = None  # set before anything is touched
        self._mark: TurnMark | None = None
        self._prompt: list[int] = []  # everything the answer is conditioned on
        self._given: list[str] = []  # all text that was given out

    @property
    def done(self) -> bool:
        """Whether it is over, successful or not."""
        return self.generation is not None or self.error is not None

    def has_news(self) -> bool:
        """Whether there is something to read: a text or the end."""
        return bool(self.texts) or self.generation is not None or self.error is not None

    @property
    def ended(self) -> bool:
        """Whether it was told to end now."""
        return self._loop.ended

    def end(self) -> None:
        """End it now. Works from any thread."""
        self._loop.ended = True

    def advance(self, *, reading: bool) -> None:
        """Compute up to the next text or the end, or one piece of the prompt.

        Args:
            reading: whether the reader is the caller. If another caller is interrupted, the answer ends there and the
                reader gets what was said. If the reader is interrupted, the turn is undone.

        Raises:
            EngineError: it failed; :attr:`error` has the error too.
        """
        loop = self._loop
        if self.done:  # an interrupt came before this was noticed
            return
        try:
            if self._before is None:
                self._begin()
            text = loop.advance() if loop.finish is None else ""
            if loop.finish is not None:
                self._enter(loop.finish, loop.text)
            if text:
                self._given.append(text)
                self.texts.append(text)
        except BaseException as error:
            if self._given and not reading and not isinstance(error, Exception):
                self._cut_short()
                raise
            self.error = error
            if self.generation is None and self._before is not None:
                self._active.restore(self._before)
            raise

    def _cut_short(self) -> None:
        """End after an interrupt: what was given out is what was said."""
        assert self._before is not None
        kv, turns = self._active.kv, self._before.turns
        kv.check()
        kv.aim([*self._prompt, *self._loop.tokens], kv.origin)
        if self.generation is None:
            self._active.turns = list(turns[:-1] if self._turn.again else turns)
            self._enter("cancelled", "".join(self._given))

    def _begin(self) -> None:
        """Make room in conversation and cache for the prompt."""
        active, turn = self._active, self._turn
        if self.ended:  # before anything was touched
            self._loop.finish = "cancelled"
            return
        active.kv.check()
        before = Snapshot() if turn.fresh else active.bare_snapshot()
        start = len(before.tokens)
        self._mark = turn.again or TurnMark(start, start + len(turn.tokens), len(before.messages))
        self._before = before
        tokens = active.make_way(turn)
        self._prompt = [*active.kv.conversation, *tokens]
        self._loop.prefill(tokens)

    def _enter(self, finish: FinishReason, text: str) -> None:
        """End: what was said becomes part of the conversation."""
        active, turn, loop = self._active, self._turn, self._loop
        if loop.said_nothing and finish == "cancelled":
            if self._before is not None:
                active.restore(self._before)
        else:
            assert self._mark is not None
            active.sampling = self._sampling
            active.turns.append(self._mark)
            if turn.messages:
                active.messages = [*turn.messages, self._message(text, finish)]
        self.generation = Generation(
            text=text,
            finish_reason=finish,
            mode=Mode.FRESH if turn.fresh else Mode.CONTINUED,
            usage=loop.usage,
            fallback=turn.fallback,
            seed=loop.seed,
            logprobs=loop.logprobs,
        )

    def _message(self, text: str, finish: FinishReason) -> Message:
        """The answer as a message of the conversation."""
        if self._reads is None:
            return Message(role="assistant", content=text)
        return Message(self._reads(text, finish != "stop"))


def _texts(message: Message) -> Iterable[str]:
    """The texts in a message's content."""
    content: object = message["content"]
    if isinstance(content, str):
        return [content]
    return [str(part["text"]) for part in cast("Sequence[Mapping[str, object]]", content or ())]
