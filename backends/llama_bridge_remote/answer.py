"""An answer of a server, read beside its reader: one that stops reading keeps nobody waiting."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from llama_bridge.errors import AnswerCutOff, BridgeError, EngineError
from llama_bridge.generation import Generation
from llama_bridge.stream import PendingAnswer

from .client import Client, Line, NoAnswer, NotJson, Refused
from .waiting import Mailbox, Signal, start

__all__ = ["Question", "RemoteAnswer", "Reply"]

_A_MOMENT = 0.02
"""Seconds after which a caller with one thread does other things."""
_MOST = 256 << 20
_PIECE = 128
"""Bytes of memory that an answer may take, counted with so many for each of its pieces."""


class Reply(ABC):
    """Reads the events of one answer. One thread at a time uses it.

    Attributes:
        whole: whether the server has told the end.
    """

    whole: bool = False

    @abstractmethod
    def hear(self, event: Mapping[str, Any]) -> str:
        """Read an event; returns the text that came with it, possibly none.

        Raises:
            EngineError: the server tells that it failed, or what it tells makes no sense.
        """

    @property
    def enough(self) -> bool:
        """Whether the answer has ended, even if nothing more comes."""
        return self.whole

    def mark(self) -> int:
        """How far it has read, in a measure of its own."""
        return 0

    @abstractmethod
    def generation(self, text: str, mark: int | None) -> Generation:
        """The answer.

        Args:
            text: what was read of it.
            mark: how far that is, if it was cut there; None if it is whole.

        Raises:
            EngineError: it is not what was asked for.
        """


class Question:
    """What is asked of a server.

    Attributes:
        path, body, headers: of the request.
        reply: reads what comes.
        commit: makes the answer a part of the conversation; see :meth:`RemoteAnswer.commit`.
        otherwise: what is asked if the server refuses this, or None if that is the end.
        holds: asks the server, while it works on this, whether it was the right question: False if another one must be
            asked. None if there is nothing to know. What it raises ends the answer.
    """

    def __init__(
        self,
        path: str,
        body: Mapping[str, Any],
        reply: Reply,
        headers: Mapping[str, str],
        commit: Callable[[Generation | None, int | None], object],
        otherwise: Callable[[Refused], Question | None] | None = None,
        holds: Callable[[], bool] | None = None,
    ) -> None:
        self.path = path
        self.body = body
        self.reply = reply
        self.headers = headers
        self.commit = commit
        self.otherwise = otherwise
        self.holds = holds


class RemoteAnswer(PendingAnswer):
    """An answer of a server.

    What is read by a caller counts: an answer that is ended is cut there, whatever has arrived.

    Args:
        client: asks the server.
        question: what is asked.
        model: the model that is asked for, for what errors say.
        over: called once, when it is over for the runtime.

    Attributes:
        begun: whether somebody has begun to read it.
    """

    def __init__(
        self,
        client: Client,
        question: Question,
        model: str | None,
        over: Callable[[RemoteAnswer], object],
    ) -> None:
        self._client = client
        self._question = question
        self._model = model
        self._over = over
        self._line = Line()
        self._texts: Mailbox[tuple[str, int] | None] = Mailbox()
        self._read: list[str] = []
        self._mark = 0
        self._cut_at: int | None = None
        self._heard: list[str] = []
        self._size = 0
        self._beside = self._ended = False
        self._failure: BaseException | None = None
        self._told = False
        self._generation: Generation | None = None
        self._concluding = threading.RLock()
        self.begun = self._concluded = self._left = False
        self._accepted = Signal()
        self._arrived = Signal()
        self._held = Signal()

    def start(self) -> None:
        """Ask."""
        self._beside = start(self._work)

    def hold(self) -> bool:
        """Find out whether it was the right question; if not, the answer must be ended.

        That is asked once the question has left, while the server works on it: what was so before tells nothing.

        Raises:
            BridgeError: nothing can be answered.
        """
        holds = self._question.holds
        if holds is not None:
            if self._beside:
                self._line.sent.wait()
            if isinstance(self._failure, NoAnswer) and not self._ended:  # there is nobody to ask
                raise self._failure
            if not holds():
                return False
        self._held.set()
        return True

    def wait_until_accepted(self) -> None:
        """Wait until the server has accepted the question.

        Raises:
            BridgeError: it refuses; the answer is over then.
        """
        try:
            self._accepted.wait()
        except BaseException:
            self.end()
            raise
        if self._failure is not None and not self._ended and not self._heard:
            self._told = True
            self._conclude()
            raise self._failure

    # beside the reader

    def _work(self) -> None:
        try:
            while self._ask():
                pass
        except BaseException as error:  # told to the reader
            self._failure = self._as_ours(error)
        finally:
            self._line.sent.set()
            self._accepted.set()
            self._held.wait()  # until then it is no part of a conversation
            self._arrived.set()
            self._texts.put(None)
            if self._ended:  # perhaps nobody looks at it any more
                self._conclude()

    def _ask(self) -> bool:
        """Ask and read; whether something else is to be asked."""
        question, reply = self._question, self._question.reply
        try:
            with self._client.stream(
                question.path, question.body, self._line, question.headers
            ) as events:
                self._accepted.set()
                for event in events:
                    if self._line.given_up.is_set():
                        return False
                    text = reply.hear(event)
                    if text:
                        self._size += len(text) + _PIECE
                        if self._size > _MOST:
                            raise EngineError(
                                f"the server {self._client.url} does not end its answer"
                            )
                        self._heard.append(text)
                        self._texts.put((text, reply.mark()))
                    if reply.whole:
                        break
        except Refused as refused:
            other = None
            if question.otherwise is not None and not self._heard:
                other = question.otherwise(refused)
            if other is None:
                raise
            self._question = other
            return True
        if not reply.enough:
            raise NoAnswer(f"the server {self._client.url} closed the connection")
        return False

    def _as_ours(self, error: BaseException) -> BaseException:
        cause = error
        if isinstance(error, Refused):
            error = self._client.error_of(error.refusal, self._model)
            error.__cause__ = cause
        text = "".join(self._heard)
        broke = isinstance(error, NoAnswer | NotJson) or (text and isinstance(error, BridgeError))
        if self._accepted.is_set() and broke:
            cut = AnswerCutOff(text, str(error))
            cut.__cause__ = error
            return cut
        if isinstance(error, BridgeError):
            return error
        lost = EngineError(f"the server's answer could not be read: {error}")
        lost.__cause__ = error
        return lost

    # the reader

    def read(self) -> str | None:
        """See :meth:`PendingAnswer.read`."""
        return self._next(None)

    def poll(self) -> str | None:
        """See :meth:`PendingAnswer.poll`."""
        return self._next(_A_MOMENT)

    def _next(self, seconds: float | None) -> str | None:
        while not self.ended:
            self.begun = True
            try:
                item = self._texts.get(timeout=seconds)
            except queue.Empty:
                return ""
            if item is None:
                self._texts.put(None)  # for other readers, and later calls
                break
            if self._line.given_up.is_set():  # while this call waited
                break
            with self._concluding:
                if self._concluded and self._ended:
                    break
                text, self._mark = item
                self._read.append(text)
            return text
        self._conclude()
        if self._failure is not None and not self._told and self._generation is None:
            self._told = True
            raise self._failure
        return None

    def end(self) -> None:
        """See :meth:`PendingAnswer.end`."""
        if self._concluded:
            return
        self._ended = True
        self._line.give_up()
        self._accepted.set()
        self._held.set()
        self._texts.put(None)
        if self._arrived.is_set():
            self._conclude()

    @property
    def ended(self) -> bool:
        """Whether it was told to end."""
        return self._ended

    def settle(self) -> None:
        """Be over for the conversation: at what was read if it was ended, otherwise when all has arrived."""
        if not self._ended:
            self._arrived.wait()
        self._conclude()

    def _conclude(self) -> None:
        """Make the whole answer of what is there, once. An interrupt in here leaves the rest to the next call."""
        with self._concluding:
            if not self._concluded:
                self._make()
                self._concluded = True
            if not self._left:
                self._over(self)
                self._left = True

    def _make(self) -> None:
        reply = self._question.reply
        cut = self._ended
        mark = self._mark if cut else None
        try:
            if cut:
                self._generation = reply.generation("".join(self._read), mark)
            elif self._failure is None:
                self._generation = reply.generation("".join(self._heard), None)
        except Exception as error:
            self._failure = error
        self._cut_at = mark

    @property
    def succeeded(self) -> bool:
        """Whether there is an answer, whole or cut, once it is over."""
        return self._generation is not None

    def commit(self) -> None:
        """Make the answer a part of its conversation; one that failed gives None."""
        self._question.commit(self._generation, self._cut_at)

    @property
    def generation(self) -> Generation:
        """See :attr:`PendingAnswer.generation`."""
        self.settle()
        if self._generation is None:
            failure = self._failure
            self._told = True
            if isinstance(failure, EngineError):
                raise failure
            raise EngineError("the server did not answer") from failure
        return self._generation
