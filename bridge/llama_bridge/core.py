"""What a bridge and its named sessions share: the engine, the lock, and who may use them when."""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Generator

from . import registry
from .answer import Turn
from .call import Call, check_prompt, check_stops
from .capabilities import Capability
from .engine import Engine
from .errors import ClosedError, FallbackWarning, InvalidInput, NoModel, UnsupportedCapability
from .generation import Generation, TextStream
from .models import ModelFile
from .params import SamplingParams
from .session import Session
from .sessions import Sessions

__all__ = ["Core"]

_PACKAGE = __name__.rpartition(".")[0]


class Core:
    """One engine at a time, used by one call at a time.

    Attributes:
        sampling: how tokens are drawn where a call does not say.
        system: system message at the start of every fresh chat, or None.
        closed: for good.
        warned: whether the fallback was told already.
    """

    def __init__(self) -> None:
        self.sampling = SamplingParams()
        self.system: str | None = None
        self.closed = False
        self.warned = False
        self._lock = threading.Lock()
        self._stream: Callable[[], TextStream | None] = lambda: None
        self._loaded: tuple[Engine, ModelFile, Sessions] | None = None

    # what is loaded

    def put(self, engine: Engine, model: ModelFile, session_memory: int) -> None:
        """Take over a loaded engine, in place of the one before. Inside :meth:`exclusive`."""
        self._free()
        self._loaded = (engine, model, Sessions(engine, model, session_memory))

    def _free(self) -> None:
        if self._loaded is not None:
            engine, _, sessions = self._loaded
            self._loaded = None
            sessions.close()
            engine.close()

    def alive(self) -> tuple[Engine, ModelFile, Sessions]:
        """Engine, model and sessions.

        Raises:
            ClosedError, NoModel.
        """
        if self.closed:
            raise ClosedError("this LlamaBridge is closed: make a new one")
        if self._loaded is None:
            raise NoModel("no model is loaded: call init_generate_model(path) first")
        return self._loaded

    def requires(self, capability: Capability) -> None:
        """Make sure of capabilities before work starts.

        Raises:
            UnsupportedCapability: names the first that is missing.
        """
        engine = self.alive()[0]
        for flag in Capability:
            if flag in capability and flag not in engine.capabilities:
                where = [name for name in registry.available_in(flag) if name != engine.backend]
                why = ""
                if flag is Capability.CHAT_TEMPLATE:
                    where, why = [], "the model has none: pass chat=False for raw text"
                raise UnsupportedCapability(flag, engine.backend, where, why)

    # who may use it when

    def cancel(self) -> None:
        """End the running generation soon. Takes no lock."""
        loaded = self._loaded
        if loaded is not None:
            loaded[0].cancel()

    def close(self) -> None:
        """Cancel what runs, wait for its end, free the engine. Twice is silent."""
        self.closed = True
        self.cancel()
        while not self._lock.acquire(timeout=0.05):
            # A stream that nobody reads holds the lock; one that runs just now ends by the cancel.
            stream = self._stream()
            if stream is not None:
                with contextlib.suppress(ValueError):
                    stream.close()
        try:
            self._free()
        finally:
            self._lock.release()

    def at_rest(self, engine: Engine) -> bool:
        """Whether this engine is still the loaded one and nobody uses it; ends what can be ended."""
        if self.closed or self._loaded is None or self._loaded[0] is not engine:
            return False
        if self._lock.locked():
            self.cancel()
            stream = self._stream()
            if stream is not None:  # half read; another thread inside it is a ValueError
                with contextlib.suppress(ValueError):
                    stream.close()
        return not self._lock.locked()

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
    def exclusive(self, *, need_model: bool = True) -> Generator[None]:
        """The engine to oneself.

        Raises:
            ClosedError, NoModel.
        """
        release = self._acquire()
        try:
            if need_model:
                self.alive()
            elif self.closed:
                raise ClosedError("this LlamaBridge is closed: make a new one")
            yield
        finally:
            release()

    def start(self, name: str, call: Call) -> TextStream:
        """Check a call, wait for the engine and begin; the engine is given back when the stream ends."""
        sampling = self.sampling if call.params is None else call.params
        if not isinstance(sampling, SamplingParams):
            raise InvalidInput(f"params={call.params!r}: give a SamplingParams")
        stops = check_stops(call.stop)
        release = self._acquire()
        try:
            engine, _, sessions = self.alive()
            turn, session = self._plan(engine, sessions, name, call)
            engine.clear_cancel()
            stream = TextStream(_guarded(session.run(turn, sampling, stops), release))
        except BaseException:
            release()
            raise
        self._stream = weakref.ref(stream)
        return stream

    def _plan(
        self, engine: Engine, sessions: Sessions, name: str, call: Call
    ) -> tuple[Turn, Session]:
        if call.prompt is None:
            self.requires(Capability.SESSION_TOOLS)
            session = sessions.take(name)
            return session.plan_again(), session
        if call.json_schema is not None:
            self.requires(Capability.JSON_SCHEMA)
        if call.chat:
            self.requires(Capability.CHAT_TEMPLATE)
        chat = Capability.CHAT_TEMPLATE in engine.capabilities if call.chat is None else call.chat
        prompt = check_prompt(call.prompt, chat)
        fallback = None
        if call.continues:
            if Capability.KV_CONTINUATION not in engine.capabilities:
                fallback = self._tell_fallback(engine)
            elif sessions.glance(name).tokens:
                session = sessions.take(name)
                return session.plan_continue(prompt, chat=chat), session
            else:
                fallback = "there was no active session to continue"
        session = sessions.take(name)
        turn = session.plan_fresh(prompt, chat=chat, system=self.system, fallback=fallback)
        return turn, session

    def _tell_fallback(self, engine: Engine) -> str:
        fallback = (
            f"the {engine.backend} backend does not support kv_continuation: "
            "the prompt was answered without the conversation before it"
        )
        if not self.warned:
            self.warned = True
            warnings.warn(fallback, FallbackWarning, stacklevel=_outside())
        return fallback


def _guarded(
    deltas: Generator[str, None, Generation], release: Callable[[], None]
) -> Generator[str, None, Generation]:
    """A running generation that gives the engine back however it ends."""
    try:
        return (yield from deltas)
    finally:
        release()


def _outside() -> int:
    """The stack level of the first caller outside this package's calls, for a warning that points there."""
    frame, level = inspect.currentframe(), 0
    own = {__name__, f"{_PACKAGE}.conversation"}
    while frame is not None and frame.f_globals.get("__name__") in own:
        frame, level = frame.f_back, level + 1
    return level
