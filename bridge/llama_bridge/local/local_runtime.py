"""The runtime over an engine: decides who may use the engine when, and what is done with it.

A call owns the engine only while it computes. An answer that was left half read holds nothing: the next call that
needs the engine first computes the rest of that answer for its reader.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..bell import Bell
from ..capabilities import Capability
from ..chat.form import ChatPrompt, ChatWish, ToolForm
from ..chat.message import Message
from ..claim import CLAIM, Claim
from ..engine import Engine, EngineInfo
from ..errors import (
    BridgeError,
    Cancelled,
    ClosedError,
    EngineError,
    InvalidInput,
    InvalidModel,
    NoSession,
    PathLike,
    UnsupportedCapability,
)
from ..generation import Generation
from ..hub.find import find_model
from ..models.adapter import Adapter, AdapterFile, read_adapters
from ..models.source import ModelFile
from ..params import SamplingParams
from ..progress import OnProgress, Progress
from ..prompt import Prompt
from ..request import Request
from ..runtime import Runtime, SessionStorage
from ..snapshot import SessionInfo, Snapshot
from ..stream import PendingAnswer
from ..vectors import Vectors
from .active import Active, RunningTurn
from .embedding import TextReader, in_batches
from .pool import Pool

if TYPE_CHECKING:
    from ..verification import Verification

__all__ = ["LocalRuntime", "prepare_files"]

T = TypeVar("T")

_NOTHING = Capability(0)
_CLOSING = 0.002
"""Seconds between two checks whether the running call has ended."""

_ENDING = 5.0
"""How many seconds the interpreter's end waits for a computing thread."""

_keeping: weakref.WeakSet[LocalRuntime] = weakref.WeakSet()
"""Runtimes that keep conversations in a folder."""

_log = logging.getLogger(__name__)


def prepare_files(model: ModelFile) -> None:
    """Import and compute what session files need: negligible next to loading a model, but not next to the first file."""
    with contextlib.suppress(InvalidModel):  # told when a file is saved or loaded
        _ = model.fingerprint  # 13 ms with 150,000 tokens
    with contextlib.suppress(ImportError):  # a page neither has nor needs xxhash
        importlib.import_module("xxhash")
        importlib.import_module(f"{__package__}.restore")


class LocalRuntime(Runtime):
    """Answers over one engine, which it owns, for any number of conversations and callers.

    Args:
        engine: used by one call at a time, except for its vocabulary and its ``cancel``.
        model: the model that runs on it.
        storage: where conversations are kept while they do not have the KV cache.
    """

    def __init__(self, engine: Engine, model: ModelFile, storage: SessionStorage) -> None:
        self.backend = engine.backend
        self.capabilities = engine.capabilities
        self.model = model
        self._engine = engine
        self._folder = storage.folder
        self._pool = Pool(engine, model, storage)
        self._texts = TextReader(engine, model)
        self._turn: RunningTurn | None = None  # the unfinished answer
        self._cancels = 0  # how often cancel() was called
        self._retired = self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()  # the engine: whoever holds it computes
        self._owner = 0  # the thread that holds it
        self._gate = threading.RLock()  # guards the next attribute, held briefly
        self._computing: RunningTurn | None = None  # the answer being computed
        self._bell = Bell()  # rung when there is another text or the engine is free
        if storage.folder is not None:
            _keeping.add(self)

    # answers

    def answer(self, request: Request) -> PendingAnswer:
        """See :meth:`Runtime.answer`. Evaluates nothing yet: the reader or the next call does."""
        return self._alone(lambda: self._plan(request))

    def _plan(self, request: Request) -> PendingAnswer:
        self._engine.clear_cancel()
        active = self._take(request.session)
        turn = RunningTurn(active, active.plan(request), request)
        answer = _LocalAnswer(self, turn)  # first: if an interrupt drops it, it ends the turn
        self._turn = turn
        return answer

    def _take(self, session: str, *, or_empty: bool = False) -> Active:
        """Give a conversation the KV cache."""
        if session != self._pool.holder.name:
            self._pool.switch(session, or_empty=or_empty)
        return self._pool.active

    def read(self, turn: RunningTurn, *, patient: bool = True) -> str | None:
        """The next text of an answer; None at its end. Without patience, "" after a piece of a long prompt."""
        while not turn.texts and not turn.done:
            try:
                self._go_on(turn, turn.has_news, reading=True)
            except BaseException:
                turn.told = turn.done
                raise
            if not patient:
                break
        if turn.texts:
            return turn.texts.popleft()
        if not turn.done:
            return ""
        if turn.error is not None and not turn.told:
            turn.told = True
            if isinstance(turn.error, Exception):
                raise turn.error
            raise EngineError("the call that computed this answer was interrupted") from turn.error
        return None

    def end(self, turn: RunningTurn) -> None:
        """End an answer now. Waits for nothing."""
        turn.end()
        if self._process != os.getpid():
            return  # forked, perhaps while another thread held the gate
        with self._gate:  # so that the next answer is not cancelled instead
            if self._computing is turn:
                self._engine.cancel()

    def cancel(self) -> None:
        """See :meth:`Runtime.cancel`."""
        self._cancels += 1  # first: see _compute()
        if (turn := self._turn) is not None:
            turn.end()
        self._engine.cancel()

    # who may use the engine when

    def _alone(self, work: Callable[[], T], needs: Capability = _NOTHING) -> T:
        """Finish the running answer, then use the engine exclusively.

        Raises:
            ClosedError.
            GivenUp: nobody waits for the work any more.
            UnsupportedCapability: the engine lacks a needed capability.
        """
        if needs not in self.capabilities:
            raise UnsupportedCapability(needs, self.backend)
        self._refuse_waiting()
        claim = CLAIM.get()
        try:
            with self._lock:
                self._owner = threading.get_ident()
                try:
                    self._check_open()
                    self._finish(claim)
                    if claim is not None:
                        claim.begin()
                    return work()
                finally:
                    self._settle()
        finally:
            self._tell()

    def _go_on(self, turn: RunningTurn, ready: Callable[[], bool], *, reading: bool) -> None:
        """Compute the next text of an answer that is not ``ready``, or wait while another call has the engine."""
        self._refuse_waiting()
        lock = self._lock
        if lock.locked():
            self._bell.wait(lambda: ready() or not lock.locked())
            return
        try:
            with lock:
                self._owner = threading.get_ident()
                try:
                    if not ready():
                        self._advance(turn, reading=reading)
                finally:
                    self._free_if_closed()
        finally:
            if self._bell.waiters:
                self._bell.ring()

    def _finish(self, claim: Claim | None = None) -> None:
        """Compute the rest of an answer that was left half read, for a call that may be given up meanwhile."""
        while (turn := self._turn) is not None:
            if claim is not None:
                claim.check()
            self._advance(turn, reading=False)
            self._tell()

    def _advance(self, turn: RunningTurn, *, reading: bool) -> None:
        """Compute the next text of an answer. Its reader gets any error; an interrupt is raised here."""
        self._computing = turn
        try:
            turn.advance(reading=reading)
        except Exception:
            pass  # turn.error has it
        finally:
            with self._gate:
                self._computing = None
            if turn.done:
                self._turn = None
                self._keep()

    def _settle(self) -> None:
        """Finish a call that may have changed a conversation."""
        try:
            self._keep()
        finally:
            self._free_if_closed()

    def _keep(self) -> None:
        """Write the active conversation to the folder, if it has changed."""
        if self._folder is None:
            return
        try:
            self._pool.keep()
        except BridgeError as error:  # does not affect the call itself
            _log.error("a session could not be kept: %s", error)

    def _refuse_waiting(self) -> None:
        """Refuse to wait if that would never end.

        Raises:
            EngineError: in a forked process.
            InvalidInput: inside ``on_progress``, or in a signal handler that interrupted this.
        """
        if (
            self._process != os.getpid()
        ):  # a thread that held the engine does not exist here and never releases it
            raise EngineError(
                "this process was forked after the model was loaded: load it again here"
            )
        if self._owner == threading.get_ident() and self._lock.locked():
            raise InvalidInput(
                "called from inside on_progress or a signal handler, while the model is busy: "
                "call again after it has returned"
            )

    def _tell(self) -> None:
        """Wake the readers that wait for a text or for the engine."""
        if self._bell.waiters:
            self._bell.ring()

    # text and tokens: these wait for nobody

    @property
    def info(self) -> EngineInfo:
        """See :attr:`Runtime.info`."""
        return self._engine.info

    def tokenize(self, text: str | Prompt, *, add_special: bool, parse_special: bool) -> list[int]:
        """See :meth:`Runtime.tokenize`."""
        if isinstance(text, Prompt):
            return self._pool.active.tokenize(text)
        return self._engine.tokenize(text, add_special=add_special, parse_special=parse_special)

    def token_bytes(self, token: int) -> bytes:
        """See :meth:`Runtime.token_bytes`."""
        return self._engine.token_bytes(token)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """See :meth:`Runtime.render`."""
        return self._pool.active.render(messages, add_generation_prompt=add_generation_prompt)

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Runtime.ask`."""
        return self._pool.active.ask(messages, wish)

    @property
    def tool_form(self) -> ToolForm | None:
        """See :attr:`Runtime.tool_form`."""
        template = self._pool.active.template
        return None if template is None else template.tool_form

    # conversations

    def _change(
        self,
        session: str,
        work: Callable[[Active], T],
        *,
        or_empty: bool = False,
        copy: bool = False,
    ) -> T:
        """Change a conversation completely or not at all: it is at rest until the work is done."""
        active = self._take(session, or_empty=or_empty)
        self._pool.rest(copy=copy)
        try:
            result = work(active)
        except BaseException:
            self._take(session)
            raise
        self._pool.is_now(session)
        return result

    def past(self, session: str) -> Snapshot:
        """See :meth:`Runtime.past`."""
        turn = self._turn
        if turn is not None and turn.ended and self._owner != threading.get_ident():
            while not turn.done:  # it only has to stop
                self._go_on(turn, lambda: turn.done, reading=False)
        return self._pool.glance(session)

    def names(self) -> list[str]:
        """See :meth:`Runtime.names`."""
        return self._pool.names()

    def reset(self, session: str) -> None:
        """See :meth:`Runtime.reset`."""
        self._alone(lambda: self._change(session, Active.reset, or_empty=True))

    def rewind(self, session: str, turns: int) -> None:
        """See :meth:`Runtime.rewind`."""
        self._alone(
            lambda: self._change(session, lambda active: active.rewind(turns)),
            Capability.SESSION_TOOLS,
        )

    def fork(self, session: str, name: str | None) -> str:
        """See :meth:`Runtime.fork`."""
        return self._alone(lambda: self._pool.fork(session, name), Capability.SESSION_TOOLS)

    def delete(self, session: str) -> None:
        """See :meth:`Runtime.delete`."""
        self._alone(lambda: self._pool.delete(session))

    # adapters

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """See :attr:`Runtime.adapters`."""
        return self._engine.info.adapters

    def set_adapters(self, adapters: Sequence[tuple[AdapterFile, float]]) -> None:
        """See :meth:`Runtime.set_adapters`. What the KV cache held is owed."""
        wanted = read_adapters([(find_model(given), scale) for given, scale in adapters])

        def work() -> None:
            self._pool.active.kv.disturb(lambda: self._engine.set_adapters(wanted))

        self._alone(work, Capability.ADAPTERS)

    # embeddings

    def embed(
        self, texts: Sequence[str], *, truncate: bool, on_progress: OnProgress | None
    ) -> Vectors:
        """See :meth:`Runtime.embed`."""
        self._check_open()
        n_embd = self._engine.info.n_embd
        rows = self._compute(
            lambda: self._texts.read(texts, truncate=truncate), Capability.EMBEDDINGS, on_progress
        )
        return Vectors(b"".join(rows), n_embd)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool,
        on_progress: OnProgress | None,
    ) -> list[float]:
        """See :meth:`Runtime.rank`."""
        self._check_open()
        rows = self._compute(
            lambda: self._texts.pair(query, documents, truncate=truncate),
            Capability.RERANK,
            on_progress,
        )
        return [row.cast("f")[0] for row in rows]

    def _compute(
        self,
        read: Callable[[], list[list[int]]],
        needs: Capability,
        on_progress: OnProgress | None,
    ) -> list[memoryview]:
        """A row for each sequence, as bytes. Between two batches, other calls have the engine."""
        cancels = self._cancels

        def compute(tokens: list[list[int]]) -> memoryview:
            self._engine.clear_cancel()
            # Looked at after that: a cancel that comes now is either counted or still in the engine.
            found = None if self._cancels != cancels else self._engine.embed(tokens)
            if found is None:
                self._check_open()
                raise Cancelled("cancelled before all texts were computed")
            return found.cast("B")

        sequences = read()
        rows: dict[int, memoryview] = {}
        for batch in in_batches([len(tokens) for tokens in sequences], self._engine.info.n_batch):
            if on_progress is not None:
                on_progress(Progress("embed", len(rows), len(sequences), "texts"))
            work = partial(compute, [sequences[i] for i in batch])
            found = self._alone(work, needs)
            size = len(found) // len(batch)
            rows |= {i: found[k * size : (k + 1) * size] for k, i in enumerate(batch)}
        if on_progress is not None:
            on_progress(Progress("embed", len(rows), len(sequences), "texts"))
        return [rows[i] for i in range(len(sequences))]

    # files

    def save(self, session: str, path: PathLike, sampling: SamplingParams) -> SessionInfo:
        """See :meth:`Runtime.save`."""
        return self._alone(
            lambda: self._save(self._take(session), path, sampling), Capability.SESSION_PERSISTENCE
        )

    def _save(self, active: Active, path: PathLike, sampling: SamplingParams) -> SessionInfo:
        from ..files.manifest import write_snapshot  # 8 ms with json: see prepare_files()

        active.kv.check()
        if not active.exists:
            raise NoSession("there is no session to save: generate something first")
        if active.kv.owed:
            self._engine.clear_cancel()
            active.kv.append([])
        return write_snapshot(path, active.snapshot(), active.made_with, sampling)

    def load(
        self,
        session: str,
        path: PathLike,
        *,
        replay: bool,
        trust_unverified: bool,
        on_progress: OnProgress | None,
    ) -> SessionInfo:
        """See :meth:`Runtime.load`."""

        from .restore import carry_out, plan_load  # 10 ms with the files: see prepare_files()

        def work() -> SessionInfo:
            # Plan with whichever conversation has the cache: a refused file does not cause a switch.
            plan = plan_load(self._pool.active, path, replay, trust_unverified)
            return self._change(
                session,
                lambda active: carry_out(active, plan, on_progress),
                or_empty=True,
                copy=plan.is_risky,
            )

        return self._alone(work, Capability.SESSION_PERSISTENCE)

    def verify(self, path: PathLike, *, deep: bool, on_progress: OnProgress | None) -> Verification:
        """See :meth:`Runtime.verify`."""
        from .verify import verify_file  # 4 ms: rarely used

        def work() -> Verification:
            name = self._pool.holder.name
            self._pool.rest()
            try:
                return verify_file(self._pool.active, path, deep, on_progress)
            finally:
                if name is not None:
                    self._take(name)

        return self._alone(work, Capability.SESSION_PERSISTENCE)

    # life

    def retire(self) -> None:
        """See :meth:`Runtime.retire`."""

        def work() -> None:
            self._retired = True

        if self._process == os.getpid():
            self._alone(work)

    def close(self) -> None:
        """See :meth:`Runtime.close`."""
        self._closed = True
        if self._process != os.getpid():
            return  # forked: the engine is the parent's
        self.cancel()
        if self._owner == threading.get_ident() and self._lock.locked():
            if self._folder is not None:
                self._folder.need()
            return  # from inside on_progress: the engine is freed when that call ends
        while self._lock.locked():  # repeatedly: work that is just starting clears a cancel
            self.cancel()
            time.sleep(_CLOSING)
        with self._lock:
            self._free_if_closed()
        self._tell()

    def _check_open(self) -> None:
        if self._closed or self._retired:
            raise ClosedError("this LlamaBridge is closed: make a new one")

    def _free_if_closed(self) -> None:
        """Release the engine, and free it if the runtime is closed."""
        try:
            if self._closed:
                self._free()
        finally:
            self._owner = 0

    def _free(self) -> None:
        if (turn := self._turn) is not None:
            turn.end()  # what was said stays, in the folder too
        try:
            self._finish()
        finally:
            try:
                self._pool.keep_all()
            except BridgeError as error:
                _log.error("a session could not be kept: %s", error)
            finally:
                self._pool.close()
                self._engine.close()
                self._give_folder_back()

    def _give_folder_back(self) -> None:
        """Let go of the folder if a call closed the bridge from inside."""
        if self._folder is None:
            return
        try:
            self._folder.spare()
        except BridgeError as error:
            _log.error("a session could not be kept: %s", error)

    def end_with_interpreter(self) -> None:
        """Keep what was said if nobody closed the bridge and a stream is half read."""
        if self._closed or self._folder is None or self._process != os.getpid():
            return
        self.cancel()
        if self._lock.acquire(timeout=_ENDING):  # a computing thread may be stuck for ever
            try:
                self._closed = True
                self._free()
            finally:
                self._lock.release()
            self._folder.flush()

    def __del__(self) -> None:
        # Dropped without close(): nothing else can use the engine. A forked process leaves it to its parent.
        made = "_process" in vars(self)
        if not made or sys.is_finalizing() or self._process != os.getpid():
            return
        if self._folder is not None and self._folder.is_writer:
            # Garbage may be collected in the writer's thread, which cannot wait for itself.
            threading.Thread(target=self._free, name="llama-bridge-closing").start()
        else:
            self._free()


@atexit.register
def _end_all() -> None:
    for runtime in list(_keeping):
        try:
            runtime.end_with_interpreter()
        except BridgeError as error:
            _log.error("a session could not be kept: %s", error)


class _LocalAnswer(PendingAnswer):
    """The reader's end of an answer."""

    def __init__(self, runtime: LocalRuntime, turn: RunningTurn) -> None:
        self._runtime = runtime
        self._turn = turn

    def read(self) -> str | None:
        """See :meth:`PendingAnswer.read`."""
        return self._runtime.read(self._turn)

    def poll(self) -> str | None:
        """See :meth:`PendingAnswer.poll`."""
        return self._runtime.read(self._turn, patient=False)

    def end(self) -> None:
        """See :meth:`PendingAnswer.end`."""
        if not self._turn.done:
            self._runtime.end(self._turn)

    def __del__(self) -> None:
        # An interrupt may come before there is a stream that does this, or before _turn is set.
        if hasattr(self, "_turn"):
            self.end()

    @property
    def generation(self) -> Generation:
        """See :attr:`PendingAnswer.generation`."""
        if self._turn.generation is None:
            raise EngineError("the generation failed, so there is no result") from self._turn.error
        return self._turn.generation
