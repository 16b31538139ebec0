"""A conversation that has a sequence in the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..capabilities import Capability
from ..chat.message import Message
from ..checks import shown
from ..engine import Engine, MemoryKind
from ..errors import InvalidInput
from ..kv_sequence import KvSequence
from ..models.source import ModelFile
from ..params import SamplingParams
from ..request import Request
from ..snapshot import Snapshot, TurnMark
from .guesses import Guesses
from .ledger import KvLedger
from .spelling import Spelling
from .turn import Turn, is_fresh, plan_again, plan_fresh, plan_next

if TYPE_CHECKING:
    from ..files.manifest import MadeWith

__all__ = ["Active"]


class Active:
    """The conversation that one sequence of an engine's KV cache holds.

    Attributes:
        engine: the engine that owns the cache.
        sequence: the sequence.
        model: the model that runs on it.
        spelling: messages and texts to its tokens.
        kv: token ledger and cache.
        messages: what was said, if the prompts were chat turns.
        turns: where each turn is in the conversation.
        sampling: how the last answer was drawn, if there is one.
    """

    def __init__(self, spelling: Spelling, sequence: KvSequence) -> None:
        self.sampling: SamplingParams | None = None
        self.spelling = spelling
        self.engine: Engine = spelling.engine
        self.sequence = sequence
        self.model: ModelFile = spelling.model
        self.kv = KvLedger(self.engine, sequence)
        self.messages: list[Message] = []
        self.turns: list[TurnMark] = []
        self._guesses: Guesses | None = None

    @property
    def guesses(self) -> Guesses | None:
        """Guesses what is said next; None if the engine or its memory cannot check guesses."""
        if self._guesses is None and self.sequence.max_guesses > 0:
            ends = self.engine.info.end_of_generation
            self._guesses = Guesses(self.sequence.max_guesses, ends)
        return self._guesses

    @property
    def exists(self) -> bool:
        """Whether there is anything to continue or save."""
        return bool(self.kv.tokens or self.kv.owed)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ledger: exactly what the KV cache holds."""
        return tuple(self.kv.tokens)

    @property
    def made_with(self) -> MadeWith:
        """What its KV cache was made with, as recorded in a session file."""
        from ..files.manifest import MadeWith  # 8 ms with json: only files need it

        engine = self.engine
        return MadeWith(self.model, engine.info, engine.backend, engine.state_prefix)

    def plan(self, request: Request) -> Turn:
        """The turn that a request asks for. This changes nothing.

        Raises:
            InvalidInput, TemplateError, ContextOverflow.
        """
        conversation = self.kv.conversation
        if request.prompt is None:
            return plan_again(conversation, self.messages, self.turns)
        if is_fresh(request) or not self.exists:
            return plan_fresh(request, self.spelling)
        return plan_next(request, self.spelling, conversation, self.messages)

    # doing

    def reset(self) -> None:
        """Forget the conversation and empty the KV cache."""
        self.messages, self.turns = [], []
        self.kv.clear()

    def snapshot(self) -> Snapshot:
        """The conversation with a copy of its KV cache, if the engine can give one."""
        self.kv.check()
        copies = Capability.SESSION_PERSISTENCE in self.engine.capabilities
        state = self.sequence.state_get() if copies and self.kv.tokens else None
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
        elif not self._take_state(state, tokens, held):
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
        held = self.sequence.state_length(state)
        if not 0 < held <= len(tokens) or not self._take_state(state, tokens, held):
            return False
        self.kv.origin = object()
        self.messages, self.turns = [], []
        return True

    def _take_state(self, state: memoryview, tokens: Sequence[int], held: int) -> bool:
        """Let the engine take a state. If it refuses, that may be because others hold the cells."""
        while not self.kv.replace(
            lambda: self.sequence.state_set(state, tokens[:held]), tokens, held
        ):
            if not self.kv.make_room():
                return False
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

    def make_way(self, turn: Turn) -> list[int]:
        """Remove what the turn replaces from conversation and cache; returns the tokens to append.

        If the engine can, a fresh prompt keeps its beginning in the cache, up to its last token: decoding that one
        gives the logits. What came from a file stays only if the prompt goes on from all of it.
        """
        if turn.again is not None:
            self.kv.rewind(turn.again.prompt_end - 1)
            self.turns.pop()
            self.messages = self.messages[: turn.again.n_messages]
        elif turn.fresh:
            self.messages, self.turns = [], []
            if Capability.PREFIX_CACHE in self.engine.capabilities:
                said = self.kv.conversation
                goes_on = turn.tokens[: len(said)] == said
                self.kv.aim(turn.tokens[:-1], self.kv.origin if goes_on else None)
                return turn.tokens[-1:]
            self.kv.clear()
        return turn.tokens
