"""An answer in progress: what a runtime returns, and the text stream that callers read."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from .checks import NotCopied
from .errors import BridgeError, InvalidAnswer
from .generation import Generation

__all__ = ["AnswerStream", "PendingAnswer", "TextStream", "with_value"]


class PendingAnswer(NotCopied, ABC):
    """One answer of a runtime. While nobody reads it, it holds nothing that another call needs."""

    @abstractmethod
    def read(self) -> str | None:
        """Wait for the next text; None at the end.

        Raises:
            EngineError: the generation failed. It is raised once; after that the result is None.
        """

    def poll(self) -> str | None:
        """Like :meth:`read`, but gives "" after a part of the work, so that a caller with one thread can do other things.

        A runtime that does not work here leaves it out.
        """
        return self.read()

    @abstractmethod
    def end(self) -> None:
        """End the answer now, as ``"cancelled"``. Works from any thread, even while another one reads.

        It does not wait: :meth:`read` gives what was said, then None. Ending twice does nothing.
        """

    @property
    @abstractmethod
    def generation(self) -> Generation:
        """The whole answer, once :meth:`read` has given None.

        Raises:
            EngineError: the generation failed; the cause is chained.
        """


T_co = TypeVar("T_co", covariant=True)


class AnswerStream(NotCopied, Iterator[T_co], ABC):
    """An answer while it is generated, in items: what streams of texts and of events have in common."""

    def __init__(self, answer: PendingAnswer) -> None:
        self._answer = answer

    def __iter__(self) -> Self:
        return self

    @property
    @abstractmethod
    def result(self) -> Generation:
        """The whole answer. Reads the rest of the stream first."""

    def show(self) -> None:
        """Show the words while they are generated: in a notebook in one place, elsewhere on standard output.

        Reads the whole stream, or what is left of it; :attr:`result` has the answer then.

        Raises:
            EngineError, InvalidToolCall, InvalidAnswer: as :attr:`result`.
        """
        from .showing import LiveText  # 2 ms

        live = LiveText()
        try:
            for item in self:
                live.add(item)
        except BaseException:
            live.end()
            raise
        live.end(self.result)

    def cancel(self) -> None:
        """End this answer soon. Works from any thread, and waits for nothing; what was said can still be read."""
        self._answer.end()

    def close(self) -> None:
        """End the answer here. ``result`` is then what was said so far, or the failure. Closing twice does nothing."""
        self._answer.end()
        with contextlib.suppress(BridgeError):
            for _ in self:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_answer"):  # an interrupt may come before it is set
            self._answer.end()


class TextStream(AnswerStream[str]):
    """The texts of an answer while it is generated. Joined, they are ``result.text``.

    A stream that is left half read blocks nobody: the next call that needs the model finishes the answer first, and
    the rest waits here. ``close()``, the end of a ``with`` block and dropping the stream end the answer at once;
    what was said stays in the conversation, as after ``cancel()``.
    """

    def __init__(self, answer: PendingAnswer, parse: Callable[[str], Any] | None = None) -> None:
        super().__init__(answer)
        self._parse = parse
        self._result: Generation | None = None

    def __next__(self) -> str:
        text = self._answer.read()
        if text is None:
            raise StopIteration
        return text

    def poll(self) -> str | None:
        """The next text; "" after a piece of a long prompt was evaluated, None at the end. For event loops."""
        return self._answer.poll()

    @property
    def result(self) -> Generation:
        """The whole answer. Reads the rest of the stream first.

        Raises:
            EngineError: the generation failed; the cause is chained.
            InvalidAnswer: the class given as ``json_schema=`` refuses the answer.
        """
        for _ in self:
            pass
        if self._result is None:
            self._result = with_value(self._answer.generation, self._parse)
        return self._result


def with_value(generation: Generation, parse: Callable[[str], Any] | None) -> Generation:
    """The generation with its value, if it is whole and ``parse`` makes one of its text.

    Raises:
        InvalidAnswer: a validator of the caller's class refuses it.
    """
    if parse is None or generation.finish_reason != "stop":
        return generation
    try:
        return replace(generation, parsed=parse(generation.text))
    except BridgeError:
        raise
    except Exception as error:
        raise InvalidAnswer(generation.text, str(error)) from error
