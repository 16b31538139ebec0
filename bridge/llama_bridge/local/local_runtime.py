"""What a bridge and its named sessions share: the engine, the lock, and who may use them when."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from .. import registry
from ..capabilities import Capability
from ..checks import Call, check_prompt, check_stops
from ..engine import Engine
from ..errors import (
    BridgeError,
    ClosedError,
    FallbackWarning,
    InvalidInput,
    NoModel,
    UnsupportedCapability,
)
from ..generation import Generation, TextStream
from ..models.source import ModelFile
from ..params import SamplingParams
from .active import Session
from .pool import Sessions
from .token_loop import Turn

if TYPE_CHECKING:
    from ..files.folder import SessionFolder

__all__ = ["Core"]

_PACKAGE = __name__.rpartition(".")[0]
_log = logging.getLogger(__name__)


class Core:
    """One engine at a time, used by one call at a time.

    Attributes:
        sampling: how tokens are drawn where a call does not say.
        system: system message at the start of every fresh chat, or None.
        folder: where named sessions are kept, or None.
        closed: for good.
        warned: whether the fallback was told already.
    """

    def __init__(self) -> None:
        self.sampling = SamplingParams()
        self.system: str | None = None
        self.folder: SessionFolder | None = None
        self.closed = False
        self.warned = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._stream: Callable[[], TextStream | None] = lambda: None
        self._loaded: tuple[Engine, ModelFile, Sessions] | None = None

    # what is loaded

    def put(self, engine: Engine, model: ModelFile, session_memory: int) -> None:
        """Take over a loaded engine, in place of the one before. Inside :meth:`exclusive`."""
        if Capability.SESSION_PERSISTENCE in engine.capabilities:
            _prepare_files()
        self._free()
        self._loaded = (engine, model, Sessions(engine, model, session_memory, self.folder))

    def _free(self) -> None:
        if self._loaded is not None:
            engine, _, sessions = self._loaded
            self._loaded = None
            sessions.close()
            engine.close()

    def __del__(self) -> None:
        # Dropped without close(): all that could use the engine holds this. A fork's engine is its parent's. What is on its
        # way to the folder gets there; waiting for that here could be waiting for oneself.
        if not sys.is_finalizing() and self._process == os.getpid():
            self.closed = True
            # If it is locked, a stream, half read, is garbage too, has yet to end, and frees the engine then.
            if not self._lock.locked():
                self._free()

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
        if not isinstance(capability, Capability):
            raise InvalidInput(f"capability={capability!r}: give a Capability")
        self.check(self.alive()[0], capability)

    def check(self, engine: Engine, capability: Capability) -> None:
        """Make sure that an engine has capabilities.

        Raises:
            UnsupportedCapability: names the first that is missing.
        """
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
            self.cancel()
            stream = self._stream()
            if stream is not None:
                with contextlib.suppress(ValueError):
                    stream.close()
        folder, self.folder = self.folder, None
        try:
            self._free()
        finally:
            self._lock.release()
            if folder is not None:
                folder.close()

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

    def _end_own_stream(self) -> None:
        """End the stream that this thread left half read: waiting for it would be for ever."""
        stream = self._stream()
        if stream is not None and stream.owner == threading.get_ident():
            stream.close()

    @contextlib.contextmanager
    def exclusive(self, *, need_model: bool = True) -> Generator[None]:
        """The engine to oneself.

        Raises:
            ClosedError, NoModel.
        """
        self._end_own_stream()
        with (
            self._lock
        ):  # no call stands between taking it and this block: an interrupt cannot lose it
            if need_model:
                self.alive()
            elif self.closed:
                raise ClosedError("this LlamaBridge is closed: make a new one")
            try:
                yield
            finally:
                self._keep()

    def _keep(self) -> None:
        """At the end of a call: have what it changed written to the folder."""
        if self.folder is not None and self._loaded is not None:
            try:
                self._loaded[2].keep()
            except BridgeError as error:  # the call itself has an end of its own
                _log.error("a session could not be kept: %s", error)

    @contextlib.contextmanager
    def reading(self) -> Generator[tuple[Engine, ModelFile, Sessions]]:
        """The engine for what changes nothing; a stream that this thread reads may stay open.

        Raises:
            ClosedError, NoModel.
        """
        stream = self._stream()
        if stream is not None and stream.owner == threading.get_ident() and self._lock.locked():
            yield self.alive()  # the stream rests between two deltas
            return
        with self._lock:
            yield self.alive()

    def start(self, name: str, call: Call) -> TextStream:
        """Check a call, wait for the engine and begin; the engine is given back when the stream ends."""
        sampling = self.sampling if call.params is None else call.params
        if not isinstance(sampling, SamplingParams):
            raise InvalidInput(f"params={call.params!r}: give a SamplingParams")
        stops = check_stops(call.stop)
        engine = self.alive()[0]
        if call.prompt is None:
            self.requires(Capability.SESSION_TOOLS)
        else:
            if call.json_schema is not None:
                self.requires(Capability.JSON_SCHEMA)
            if call.chat:
                self.requires(Capability.CHAT_TEMPLATE)
            check_prompt(call.prompt, _is_chat(call, engine))
        fallback = None
        if call.continues and Capability.KV_CONTINUATION not in engine.capabilities:
            fallback = self._tell_fallback(engine)
        self._end_own_stream()
        stream = TextStream(self._generate(name, call, sampling, stops, fallback))
        self._stream = weakref.ref(stream)
        return stream

    def _generate(
        self,
        name: str,
        call: Call,
        sampling: SamplingParams,
        stops: list[str],
        fallback: str | None,
    ) -> Generator[str, None, Generation]:
        with self._lock:  # held as long as this generator lives
            engine, _, sessions = self.alive()
            engine.clear_cancel()
            try:
                turn, session = self._plan(engine, sessions, name, call, fallback)
                return (yield from session.run(turn, sampling, stops))
            finally:
                self._keep()
                if self.closed:  # while this was half read: see __del__
                    self._free()

    def _plan(
        self, engine: Engine, sessions: Sessions, name: str, call: Call, fallback: str | None
    ) -> tuple[Turn, Session]:
        session = sessions.take(name)
        if call.prompt is None:
            return session.plan_again(), session
        chat = _is_chat(call, engine)
        if call.continues and fallback is None:
            if session.active:
                return session.plan_continue(call.prompt, chat=chat), session
            fallback = "there was no active session to continue"
        return session.plan_fresh(
            call.prompt, chat=chat, system=self.system, fallback=fallback
        ), session

    def _tell_fallback(self, engine: Engine) -> str:
        fallback = (
            f"the {engine.backend} backend does not support kv_continuation: "
            "the prompt was answered without the conversation before it"
        )
        if not self.warned:
            warnings.warn(fallback, FallbackWarning, stacklevel=_outside())
            self.warned = True  # not where warnings are errors
        return fallback


def _prepare_files() -> None:
    """Import what session files need: beside a model's load that is nothing, beside a file's it is much."""
    with contextlib.suppress(ImportError):  # a page has no xxhash, and no use for it
        importlib.import_module("xxhash")
        importlib.import_module(f"{_PACKAGE}.restore")


def _is_chat(call: Call, engine: Engine) -> bool:
    return Capability.CHAT_TEMPLATE in engine.capabilities if call.chat is None else call.chat


def _outside() -> int:
    """The stack level of the first caller outside this package's calls, for a warning that points there."""
    frame, level = inspect.currentframe(), 0
    own = {__name__, "llama_bridge.conversation"}
    while frame is not None and frame.f_globals.get("__name__") in own:
        frame, level = frame.f_back, level + 1
    return level
