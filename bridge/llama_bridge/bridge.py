"""LlamaBridge: one interface to llama.cpp on every backend. The facade: checks, locks, delegates."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType

from . import registry
from .answer import Turn
from .capabilities import Capability
from .engine import Backend, Engine, EngineInfo
from .errors import (
    BackendUnavailable,
    ClosedError,
    FallbackWarning,
    InvalidInput,
    NoModel,
    PathLike,
    UnsupportedCapability,
)
from .generation import Generation, TextStream
from .models import ModelFile, open_model
from .params import ModelParams, SamplingParams
from .persistence import SessionInfo, load_session, save_session
from .session import Session
from .templates import check_messages

__all__ = ["LlamaBridge"]

_log = logging.getLogger(__name__)


class LlamaBridge:
    """A model and one conversation with it.

    Calls from several threads queue; :meth:`cancel` may come from any thread at any time. Use it as a
    context manager, or call :meth:`close`.

    Args:
        model: path of a GGUF file, or ``"demo"``; None loads none yet.
        backend: ``"auto"``, a backend's name, or a :class:`~llama_bridge.engine.Backend` object. Auto takes
            what ``LLAMA_BRIDGE_BACKEND`` names, else the best one available.
        params: load-time settings.
        sampling: how tokens are drawn where a call does not say.
        system: system message at the start of every fresh chat.

    Raises:
        BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        backend: str | Backend = registry.AUTO,
        params: ModelParams | None = None,
        sampling: SamplingParams | None = None,
        system: str | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._stream: Callable[[], TextStream | None] = lambda: None
        self._backend_choice = backend
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._model: ModelFile | None = None
        self._closed = False
        self._warned = False
        self._sampling = SamplingParams()
        self.sampling = sampling if sampling is not None else SamplingParams()
        self.system = system
        if model is not None:
            self.init_generate_model(model, params)

    # the model

    def init_generate_model(
        self, model: str | os.PathLike[str], params: ModelParams | None = None
    ) -> None:
        """Load a model, in place of the loaded one; one that cannot be loaded leaves that in use.

        Raises:
            BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory, ClosedError.
        """
        with self._exclusive(need_model=False):
            file = open_model(model)
            engine = self._load(file, params or ModelParams())
            if self._engine is not None:
                self._engine.close()
            self._engine, self._model = engine, file
            self._session = Session(engine, file.chat_template)

    def _load(self, file: ModelFile, params: ModelParams) -> Engine:
        backends = registry.candidates(self._backend_choice)
        for i, backend in enumerate(backends):
            try:
                return backend.load(file, params)
            except BackendUnavailable as error:
                # It looked available and is not (a broken shared library, say): the next best, aloud.
                if i + 1 == len(backends):
                    raise
                _log.warning("%s; trying the next backend", error)
        raise AssertionError("candidates() is never empty")

    @property
    def model(self) -> ModelFile:
        """The loaded model file: name, path, metadata, chat template."""
        self._alive()
        assert self._model is not None
        return self._model

    @property
    def info(self) -> EngineInfo:
        """Numbers of the loaded model and its context, ``n_ctx`` among them."""
        return self._alive()[0].info

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._alive()[0].backend

    @property
    def capabilities(self) -> Capability:
        """What the loaded model can do on this backend."""
        return self._alive()[0].capabilities

    def requires(self, capability: Capability) -> None:
        """Make sure of capabilities before work starts.

        Raises:
            UnsupportedCapability: names the first that is missing.
        """
        engine, _ = self._alive()
        for flag in Capability:
            if flag in capability and flag not in engine.capabilities:
                where = [name for name in registry.available_in(flag) if name != engine.backend]
                why = ""
                if flag is Capability.CHAT_TEMPLATE:
                    where, why = [], "the model has none: pass chat=False for raw text"
                raise UnsupportedCapability(flag, engine.backend, where, why)

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn where a call does not say."""
        return self._sampling

    @sampling.setter
    def sampling(self, value: SamplingParams) -> None:
        if not isinstance(value, SamplingParams):
            raise InvalidInput(f"sampling={value!r}: give a SamplingParams")
        self._sampling = value

    # generating

    def generate(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> Generation:
        """Answer a prompt from nothing; its KV cache becomes the active session.

        Args:
            prompt: a user turn where the model has a chat template, else raw text.
            params: how tokens are drawn; None takes :attr:`sampling`.
            stop: strings that end the answer and are not part of it.
            chat: False for raw text, True to insist on the chat template.
            json_schema: needs ``Capability.JSON_SCHEMA``.

        Raises:
            InvalidInput, ContextOverflow, UnsupportedCapability, TemplateError, EngineError, ClosedError.
        """
        return self.generate_stream(
            prompt, params=params, stop=stop, chat=chat, json_schema=json_schema
        ).result

    def generate_stream(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> TextStream:
        """As :meth:`generate`, text arriving while it is generated; ``.result`` at the end."""
        return self._start(prompt, params, stop, chat, json_schema, self._plan_fresh)

    def generate_continue(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> Generation:
        """Answer a prompt as the next turn of the active session, evaluating only what is new.

        Where there is no session, or the backend lacks ``KV_CONTINUATION``, it runs as :meth:`generate`:
        ``mode`` is then ``Mode.FRESH`` and ``fallback`` says why. Arguments and errors as there.
        """
        return self.generate_continue_stream(
            prompt, params=params, stop=stop, chat=chat, json_schema=json_schema
        ).result

    def generate_continue_stream(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> TextStream:
        """As :meth:`generate_continue`, text arriving while it is generated."""
        return self._start(prompt, params, stop, chat, json_schema, self._plan_continue)

    def cancel(self) -> None:
        """End the running generation soon, in prefill or decode. From any thread; idle, it does nothing."""
        engine = self._engine
        if engine is not None:
            engine.cancel()

    def _plan_fresh(self, session: Session, prompt: str, chat: bool) -> Turn:
        return session.plan_fresh(prompt, chat=chat, system=self.system)

    def _plan_continue(self, session: Session, prompt: str, chat: bool) -> Turn:
        fallback = None
        if Capability.KV_CONTINUATION not in session.engine.capabilities:
            fallback = (
                f"the {session.engine.backend} backend does not support kv_continuation: "
                "the prompt was answered without the conversation before it"
            )
            if not self._warned:
                self._warned = True
                warnings.warn(fallback, FallbackWarning, stacklevel=_outside())
        elif not session.active:
            fallback = "there was no active session to continue"
        if fallback is not None:
            return session.plan_fresh(prompt, chat=chat, system=self.system, fallback=fallback)
        return session.plan_continue(prompt, chat=chat)

    def _start(
        self,
        prompt: str,
        params: SamplingParams | None,
        stop: str | Sequence[str],
        chat: bool | None,
        json_schema: Mapping[str, object] | None,
        plan: Callable[[Session, str, bool], Turn],
    ) -> TextStream:
        sampling = self.sampling if params is None else params
        if not isinstance(sampling, SamplingParams):
            raise InvalidInput(f"params={params!r}: give a SamplingParams")
        stops = _check_stops(stop)
        release = self._acquire()
        try:
            engine, session = self._alive()
            if json_schema is not None:
                self.requires(Capability.JSON_SCHEMA)
            if chat:
                self.requires(Capability.CHAT_TEMPLATE)
            as_chat = Capability.CHAT_TEMPLATE in engine.capabilities if chat is None else chat
            turn = plan(session, _check_prompt(prompt, as_chat), as_chat)
            engine.clear_cancel()
            stream = TextStream(_guarded(session.run(turn, sampling, stops), release))
        except BaseException:
            release()
            raise
        self._stream = weakref.ref(stream)
        return stream

    # the session

    @property
    def session(self) -> Session:
        """The active conversation: ``.tokens`` (the ledger), ``.messages``, ``.active``."""
        return self._alive()[1]

    def session_reset(self) -> None:
        """Forget the conversation: the KV cache is emptied, the model stays loaded."""
        with self._exclusive():
            self._alive()[1].reset()

    def session_save(self, path: PathLike) -> SessionInfo:
        """Write the session to a file, whole or not at all; a file that was there survives any failure.

        Raises:
            UnsupportedCapability, NoSession, SessionWriteError, ClosedError.
        """
        with self._exclusive():
            self.requires(Capability.SESSION_PERSISTENCE)
            _, session = self._alive()
            return save_session(session, self.model, self.sampling, path)

    def session_load(self, path: PathLike) -> SessionInfo:
        """Make a saved session the active one; a refused file leaves the live session untouched.

        Raises:
            UnsupportedCapability, SessionNotFound, SessionCorrupt, SessionMismatch, ClosedError.
        """
        with self._exclusive():
            self.requires(Capability.SESSION_PERSISTENCE)
            _, session = self._alive()
            return load_session(session, self.model, path)

    # text and tokens

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids of a text in the model's vocabulary.

        ``add_special`` adds the model's BOS and the like; ``parse_special`` reads control tokens in the text.
        """
        with self._exclusive():
            engine, _ = self._alive()
            return engine.tokenize(
                _check_text("text", text), add_special=add_special, parse_special=parse_special
            )

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids; control tokens give none, bytes that are no UTF-8 give U+FFFD."""
        with self._exclusive():
            engine, _ = self._alive()
            for token in tokens:
                if isinstance(token, bool) or not isinstance(token, int):
                    raise InvalidInput(f"tokens must be whole numbers, got {token!r}")
                if not 0 <= token < engine.info.n_vocab:
                    last = engine.info.n_vocab - 1
                    raise InvalidInput(f"token {token} is not in the vocabulary (0 to {last})")
            return b"".join(map(engine.token_bytes, tokens)).decode("utf-8", "replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """The messages as the model's own template writes them.

        Raises:
            UnsupportedCapability: the model has no template.
            InvalidInput, TemplateError.
        """
        with self._exclusive():
            self.requires(Capability.CHAT_TEMPLATE)
            template = self._alive()[1].template
            assert template is not None
            return template.render(
                check_messages(messages), add_generation_prompt=add_generation_prompt
            )

    def embed(self, text: str | Sequence[str]) -> list[float] | list[list[float]]:
        """Embedding vectors; needs ``Capability.EMBEDDINGS``, which no backend has yet."""
        self.requires(Capability.EMBEDDINGS)
        raise AssertionError("unreachable: no backend has the capability")

    # life and locks

    def close(self) -> None:
        """Cancel what runs, free the model. Twice is silent."""
        self._closed = True
        self.cancel()
        while not self._lock.acquire(timeout=0.05):
            # A stream that nobody reads holds the lock; one that runs just now ends by the cancel.
            stream = self._stream()
            if stream is not None:
                with contextlib.suppress(ValueError):
                    stream.close()
        try:
            engine, self._engine, self._session = self._engine, None, None
            if engine is not None:
                engine.close()
        finally:
            self._lock.release()

    def __enter__(self) -> LlamaBridge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _alive(self) -> tuple[Engine, Session]:
        if self._closed:
            raise ClosedError("this LlamaBridge is closed: make a new one")
        if self._engine is None or self._session is None:
            raise NoModel("no model is loaded: call init_generate_model(path) first")
        return self._engine, self._session

    def _acquire(self) -> Callable[[], None]:
        """Wait for the engine; returns what gives it back, harmless when called twice."""
        stream = self._stream()
        if stream is not None and stream.owner == threading.get_ident():
            stream.close()  # this thread left it half read: waiting for it would be for ever
        del stream
        self._lock.acquire()
        held = [self._lock]

        def release() -> None:
            if held:
                held.pop().release()

        return release

    @contextlib.contextmanager
    def _exclusive(self, *, need_model: bool = True) -> Generator[None]:
        release = self._acquire()
        try:
            if need_model:
                self._alive()
            elif self._closed:
                raise ClosedError("this LlamaBridge is closed: make a new one")
            yield
        finally:
            release()


def _guarded(
    deltas: Generator[str, None, Generation], release: Callable[[], None]
) -> Generator[str, None, Generation]:
    """A running generation that gives the engine back however it ends."""
    try:
        return (yield from deltas)
    finally:
        release()


def _check_text(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} holds a lone surrogate, which is no text: {error}") from error
    return text


def _check_prompt(prompt: str, chat: bool) -> str:
    _check_text("prompt", prompt)
    if not prompt or (chat and not prompt.strip()):
        raise InvalidInput("prompt is empty: give some text")
    return prompt


def _check_stops(stop: str | Sequence[str]) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not _check_text("stop", text):
            raise InvalidInput("stop holds an empty string, which would end every answer at once")
    return stops


def _outside() -> int:
    """The stack level of the first caller outside this module, for a warning that points there."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame, level = frame.f_back, level + 1
    return level
