"""What the runtimes for all kinds of servers share: who asks, what ends, and which conversation an answer belongs to."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from llama_bridge.capabilities import Capability
from llama_bridge.chat.message import Message
from llama_bridge.errors import ClosedError, EngineError, UnsupportedCapability
from llama_bridge.params import SamplingParams
from llama_bridge.request import Request
from llama_bridge.runtime import Runtime
from llama_bridge.snapshot import Snapshot, TurnMark
from llama_bridge.stream import PendingAnswer

from .answer import Question, RemoteAnswer
from .client import Client, Line

__all__ = ["NAME", "Kept", "Place", "RemoteRuntime", "new_seed"]

NAME = "remote"
_QUESTIONS = 3
"""How often a request is asked, if the server has another model each time."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation, as far as it is known here.

    Attributes:
        messages: what was said, if the prompts were chat turns.
        raw: the whole text, if they were raw.
        tokens: all of it as tokens, where the server's are known.
        turns: where each turn is.
        response: what the server calls its last answer, if it keeps it; otherwise empty.
        sampling: how the last answer was drawn.
        identity: what the model must be that goes on with it, where that is known.
        before: the same before the last turn, where turns can be undone.
        asked: what the last turn was asked, so that it can be asked again.
        again: whether the turn after this is answered once more.
    """

    messages: tuple[Message, ...] = ()
    raw: str = ""
    tokens: tuple[int, ...] = ()
    turns: tuple[TurnMark, ...] = ()
    response: str = ""
    sampling: SamplingParams | None = None
    identity: Mapping[str, object] = field(default_factory=dict[str, object])
    before: Kept | None = field(default=None, repr=False, compare=False)
    asked: Request | None = field(default=None, repr=False, compare=False)
    again: bool = False

    def then(
        self,
        request: Request,
        messages: tuple[Message, ...] = (),
        raw: str = "",
        response: str = "",
    ) -> Kept:
        """The conversation after one more turn."""
        before = replace(self, again=False)
        return Kept(
            messages=messages,
            raw=raw,
            turns=(*self.turns, TurnMark(0, 0, len(self.messages))),
            response=response,
            sampling=request.sampling,
            before=before,
            asked=replace(request, on_progress=None),
        )

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self.messages or self.raw or self.tokens)


@dataclass(slots=True)
class Place:
    """A conversation by its name, and the answer that will become a part of it."""

    kept: Kept = Kept()
    running: RemoteAnswer | None = None
    id: str = field(default_factory=lambda: os.urandom(16).hex())


class RemoteRuntime(Runtime):
    """Answers over a server.

    Args:
        client: asks it.
        name: the model there.
        capabilities: what was found that it can do.

    Attributes:
        name: as given.
        dialect: how the server is asked, in words.
        places: the conversations by their names, least recently used first.
        lock: held while they change.
    """

    backend = NAME
    dialect = ""
    waits = True
    """Whether a question is accepted or refused before its prompt is evaluated."""

    def __init__(self, client: Client, name: str, capabilities: Capability) -> None:
        self.client = client
        self.name = name
        self.capabilities = capabilities
        self.where = f"{name} at {client.url} ({self.dialect})"
        self.places: OrderedDict[str, Place] = OrderedDict()
        self._answers: set[RemoteAnswer] = set()
        self._lines: set[Line] = set()
        self.lock = threading.RLock()
        self._cancels = 0
        self._retired = self._closed = False

    # what a dialect is

    @abstractmethod
    def question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """What the server is asked for a request that goes on from this; ``kept`` is empty for a fresh one.

        Raises:
            InvalidInput, ContextOverflow, TemplateError, EngineError.
        """

    def once_more(self, request: Request, kept: Kept) -> tuple[Request, Kept]:
        """What is asked to answer the last turn of a conversation again, and what it goes on from.

        Raises:
            InvalidInput: there is no turn.
        """
        raise UnsupportedCapability(Capability.SESSION_TOOLS, self.backend)

    # answers

    def answer(self, request: Request) -> PendingAnswer:
        """See :meth:`Runtime.answer`. The server evaluates at once."""
        self._check_open()
        cancels = self._cancels
        place = self._place(request.session)
        again = request.prompt is None
        while (request.continues or again) and (running := place.running) is not None:
            running.settle()
        self._check_open()
        fresh = not again and (not request.continues or bool(request.told))
        kept = Kept() if fresh else place.kept
        if again:
            request, kept = self.once_more(request, kept)
        for _ in range(_QUESTIONS):
            question = self.question(request, kept, {"x-session-id": place.id})
            answer = RemoteAnswer(
                self.client, question, self.name, lambda answer: self._over(place, answer, fresh)
            )
            try:
                with self.lock:
                    place.running = answer
                    self._answers.add(answer)
                if self._cancels != cancels or self._closed:
                    answer.end()
                answer.start()
                if answer.hold():
                    if self.waits:
                        answer.wait_until_accepted()
                        if self._retired and answer.ended and self._cancels == cancels:
                            self._check_open()  # nobody has cancelled it: whoever asked can ask the runtime that has taken over
                    return answer
            except BaseException:  # an interrupt, too: nobody has the answer
                self._drop(place, answer)
                raise
            self._drop(place, answer)
        raise EngineError(f"the server {self.client.url} has another model each time it is asked")

    def _drop(self, place: Place, answer: RemoteAnswer) -> None:
        """End an answer that nobody has. It changes nothing."""
        with self.lock:
            self._answers.discard(answer)
            if place.running is answer:
                place.running = None
        answer.end()

    def _over(self, place: Place, answer: RemoteAnswer, fresh: bool) -> None:
        """An answer is over. One that failed, or that nobody began to read, changes nothing; a fresh one that said nothing leaves nothing."""
        with self.lock:
            self._answers.discard(answer)
            if place.running is answer:
                if fresh and answer.succeeded and answer.begun:
                    place.kept = Kept()
                answer.commit()
                place.running = None

    def keep(self, session: str, kept: Kept) -> None:
        """What the conversation is from now on."""
        self._place(session).kept = kept

    def _place(self, session: str) -> Place:
        """A conversation, which is used now."""
        with self.lock:
            place = self.places.setdefault(session, Place())
            self.places.move_to_end(session)
            return place

    def settled(self, session: str) -> Place:
        """A conversation at rest."""
        self._check_open()
        place = self._place(session)
        while (running := place.running) is not None:
            running.settle()
        return place

    def cancel(self) -> None:
        """See :meth:`Runtime.cancel`."""
        self._cancels += 1
        self._give_up()

    def _give_up(self) -> None:
        for answer in tuple(self._answers):
            answer.end()
        for line in tuple(self._lines):
            line.give_up()

    @contextmanager
    def under_way(self, line: Line) -> Generator[None]:
        """A request that :meth:`cancel` gives up."""
        with self.lock:
            self._lines.add(line)
        try:
            yield
        finally:
            with self.lock:
                self._lines.discard(line)

    def retire(self) -> None:
        """See :meth:`Runtime.retire`."""
        self._retired = True

    def close(self) -> None:
        """See :meth:`Runtime.close`."""
        self._closed = True
        self._give_up()
        self.client.close()

    def _check_open(self) -> None:
        if self._closed or self._retired:
            raise ClosedError("this LlamaBridge is closed: make a new one")

    def needs(self, flag: Capability) -> None:
        """Refuse what the server cannot do.

        Raises:
            UnsupportedCapability.
        """
        if flag not in self.capabilities:
            raise UnsupportedCapability(flag, self.backend, (), self.why_not(flag))

    # conversations

    def past(self, session: str) -> Snapshot:
        """See :meth:`Runtime.past`."""
        place = self.places.get(session) or Place()
        if (running := place.running) is not None and running.ended:
            running.settle()
        kept = place.kept
        return Snapshot(
            tokens=kept.tokens,
            messages=kept.messages,
            turns=kept.turns,
            sampling=kept.sampling,
        )

    def reset(self, session: str) -> None:
        """See :meth:`Runtime.reset`."""
        place = self.settled(session)
        with self.lock:
            place.kept, place.id = Kept(), os.urandom(16).hex()


def new_seed(sampling: SamplingParams) -> int:
    """The seed of an answer: the given one, or a new one."""
    if sampling.seed is not None:
        return sampling.seed
    return int.from_bytes(os.urandom(4), "little") % (2**32 - 1)
