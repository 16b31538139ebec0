"""A backend without a model: it gives the answers that a test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ...capabilities import Capability, as_capability
from ...checks import shown
from ...engine import MemoryKind
from ...errors import BackendUnavailable, BridgeError, EngineError, InvalidInput
from ...local.engine_backend import EngineBackend
from ...models.source import ModelFile
from ...params import ModelParams
from ...progress import OnProgress, Progress
from ...runtime import Availability
from .answers import Answer, Answers, Asked, FakeAnswer, check_seconds, echo
from .engine import FakeEngine

__all__ = ["FakeBackend"]


class FakeBackend(EngineBackend):
    """Creates :class:`FakeEngine`. Use it as ``LlamaBridge("demo", backend=FakeBackend([...]))``.

    Args:
        answers: one answer for every prompt, a list to take in order, a mapping from prompt to answer, or a
            function of :class:`Asked`. If there is no answer left, EngineError is raised.
        capabilities: flags or their names; None for everything that the fake can do.
        lacks: capabilities to remove from these.
        memory: the kind of KV cache. Only a dense one can be rewound and has ``PREFIX_CACHE``.
        prefill_token_seconds: time that each prompt token takes, unless it is cancelled.
        load_error: what loading a model raises; a BackendUnavailable also shows in ``probe()``.

    Raises:
        InvalidInput: one of them has the wrong type.

    Attributes:
        asked: what each answer so far was conditioned on, in order.
    """

    name = "fake"
    rank = 0
    capabilities = (
        Capability.GENERATE
        | Capability.STREAM
        | Capability.CANCEL
        | Capability.JSON_SCHEMA
        | Capability.LOGPROBS
        | Capability.CHAT_TEMPLATE
        | Capability.TOOLS
        | Capability.TOKENS
        | Capability.KV_CONTINUATION
        | Capability.PREFIX_CACHE
        | Capability.SESSION_PERSISTENCE
        | Capability.SESSION_TOOLS
        | Capability.EMBEDDINGS
        | Capability.RERANK
        | Capability.ADAPTERS
    )

    def __init__(
        self,
        answers: Answers = echo,
        *,
        capabilities: Capability | str | Iterable[str] | None = None,
        lacks: Capability | str | Iterable[str] = (),
        memory: MemoryKind = MemoryKind.DENSE,
        prefill_token_seconds: float = 0.0,
        load_error: BridgeError | None = None,
    ) -> None:
        if capabilities is not None:
            self.capabilities = as_capability(capabilities)
        self.capabilities &= ~as_capability(lacks)
        if not isinstance(memory, MemoryKind):
            raise InvalidInput(f"memory={shown(memory)}: give a MemoryKind")
        if not isinstance(load_error, BridgeError | None):
            raise InvalidInput(f"load_error={shown(load_error)}: give a BridgeError, or None")
        self._memory = memory
        self._prefill_token_seconds = check_seconds("prefill_token_seconds", prefill_token_seconds)
        self.asked: list[Asked] = []
        self._load_error = load_error
        self._answers = _function(answers)

    def probe(self) -> Availability:
        """Available, unless ``load_error`` says otherwise."""
        if isinstance(self._load_error, BackendUnavailable):
            return Availability(self.name, False, self._load_error.reason, self._load_error.hint)
        return Availability(self.name, True, "for tests: it computes nothing", version="fake")

    def load(
        self, model: ModelFile, params: ModelParams, on_progress: OnProgress | None = None
    ) -> FakeEngine:
        """An engine for any GGUF file; only its template and control tokens matter."""
        if self._load_error is not None:
            raise self._load_error
        if on_progress is not None:
            for done in (0, model.header.file_size):
                on_progress(Progress("load", done, model.header.file_size, "bytes"))
        return FakeEngine(
            model,
            params,
            self.answer,
            backend=self.name,
            capabilities=self.capabilities,
            memory=self._memory,
            prefill_token_seconds=self._prefill_token_seconds,
        )

    def answer(self, asked: Asked) -> FakeAnswer:
        """The next answer."""
        self.asked.append(asked)
        given = self._answers(asked)
        return given if isinstance(given, FakeAnswer) else FakeAnswer(given)


def _function(answers: Answers) -> Callable[[Asked], Answer]:
    """Convert every form of answers to a function."""
    if isinstance(answers, str | FakeAnswer):
        return lambda _: answers
    if isinstance(answers, Mapping):
        return partial(_look_up, answers)
    if callable(answers):
        return answers
    try:
        return partial(_take_next, iter(answers))
    except TypeError as error:
        what = "give a text, a list of texts, a dict from prompt to text, or a function"
        raise InvalidInput(f"answers={shown(answers)}: {what}") from error


def _look_up(answers: Mapping[Any, Answer], asked: Asked) -> Answer:
    try:
        return answers[asked.prompt]
    except KeyError:
        known = ", ".join(map(repr, answers))
        raise EngineError(f"the fake has no answer to {asked.prompt!r}; it has: {known}") from None


def _take_next(answers: Iterator[Answer], asked: Asked) -> Answer:
    for answer in answers:
        return answer
    raise EngineError(f"the fake has no answer left for {asked.prompt!r}")
