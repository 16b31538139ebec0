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
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..capabilities import Capability
from ..chat.form import ChatPrompt, ChatWish, ToolForm
from ..chat.message import Message
from ..engine import Engine, EngineInfo
from ..errors import (
    BridgeError,
    Cancelled,
    ClosedError,
    EngineError,
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
from .active import Active
from .embedding import TextReader, in_batches
from .pool import Pool
from .running_turn import RunningTurn
from .scheduler import InTheWay, Scheduler
from .turn import Turn, is_fresh, plan_fresh

if TYPE_CHECKING:
    from ..files.manifest import MadeWith
    from ..verification import Verification

__all__ = ["LocalRuntime", "prepare_files"]

T = TypeVar("T")
P = ParamSpec("P")

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
        max_waiting: how many calls may wait for a sequence.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelFile,
        storage: SessionStorage,
        max_waiting: int = 256,
    ) -> None:
        self.backend = engine.backend
        self.capabilities = engine.capabilities
        self.model = model
        self._engine = engine
        self._folder = storage.folder
        self._pool = Pool(engine, model, storage)
        self._spelling = self._pool.spelling
        self._texts = TextReader(engine, model)
        self._scheduler = Scheduler(
            engine,
            self._pool.turns,
            max_waiting,
            self._pool.check,
            _weakly(self._keep),
            _weakly(self._free_if_closed),
            _weakly(self._keep),
        )
        self._cancels = 0  # how often cancel() was called
        self._retired = self._closed = False
        self._process = os.getpid()
        if storage.folder is not None:
            _keeping.add(self)

    # answers

    def answer(self, request: Request) -> PendingAnswer:
        """See :meth:`Runtime.answer`. Evaluates nothing yet: the reader or the next call does."""
        self._scheduler.refuse_waiting()
        self._check_open()
        cancels, first = self._cancels, not self._scheduler.lock.locked()
        if first:  # from here on, what a page writes into the engine's flag means this answer
            self._scheduler.listen()
        turn = plan_fresh(request, self._spelling) if is_fresh(request) else None
        session = None if turn is not None else request.session

        def begin() -> PendingAnswer:
            ended = first and self._scheduler.stopped_from_outside
            running, answer = self._begin(request, turn)
            if ended or self._cancels != cancels:  # while this call waited or read its prompt
                running.end()
            return answer

        look = partial(self._in_the_way, session)
        return self._scheduler.alone(begin, look, patient=False)

    def _begin(self, request: Request, turn: Turn | None) -> tuple[RunningTurn, PendingAnswer]:
        self._scheduler.listen()
        pool, session = self._pool, request.session
        if turn is None:
            seat = pool.switch(session)
            turn = seat.active.plan(request)
        else:
            seat = pool.seat_for(session, turn.tokens)
        running = RunningTurn(seat.active, turn, request, partial(pool.is_now, seat, session))
        answer = _LocalAnswer(self, running)  # first: if an interrupt drops it, it ends the turn
        seat.turn = running
        return running, answer

    def _in_the_way(self, session: str | None) -> InTheWay:
        """What must end before this conversation, or a new one, can have a seat."""
        self._check_open()
        turns, pool = self._pool.turns(), self._pool
        if session is not None:
            if mine := [turn for turn in turns if turn.session == session]:
                return InTheWay(mine)
            if pool.seat_of(session) is not None:
                return InTheWay()
        return InTheWay(turns if len(turns) == len(pool.seats) else (), seat=True)

    def read(self, turn: RunningTurn, *, patient: bool = True) -> str | None:
        """The next text of an answer; None at its end. Without patience, "" after a piece of a long prompt."""
        turn.read_by += 1
        try:
            while not turn.texts and not turn.done:
                try:
                    self._scheduler.go_on(turn, turn.has_news, reading=True)
                except BaseException:
                    turn.told = turn.done
                    raise
                if not patient:
                    break
        finally:
            turn.read_by -= 1
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
        self._scheduler.end(turn)

    def cancel(self) -> None:
        """See :meth:`Runtime.cancel`."""
        self._cancels += 1  # first: see _compute()
        for turn in self._pool.turns():
            turn.end()
        self._engine.cancel()

    # who may use the engine when

    def _alone(
        self,
        work: Callable[[], T],
        needs: Capability = _NOTHING,
        look: Callable[[], InTheWay] | None = None,
    ) -> T:
        """Use the engine exclusively, once nothing is in the way: by default, no turn at all.

        Raises:
            ClosedError.
            GivenUp: nobody waits for the work any more.
            UnsupportedCapability: the engine lacks a needed capability.
        """
        if needs not in self.capabilities:
            raise UnsupportedCapability(needs, self.backend)

        def everyone() -> InTheWay:
            self._check_open()
            return InTheWay(self._pool.turns())

        return self._scheduler.alone(work, look or everyone)

    def _with(self, session: str, work: Callable[[], T], needs: Capability = _NOTHING) -> T:
        """Use the engine exclusively for one conversation, which has or finds a seat."""
        return self._alone(work, needs, lambda: self._in_the_way(session))

    def _nothing(self) -> InTheWay:
        self._check_open()
        return InTheWay()

    def _keep(self) -> None:
        """Write the conversations to the folder, if they have changed."""
        if self._folder is None:
            return
        try:
            self._pool.keep()
        except BridgeError as error:  # does not affect the call itself
            _log.error("a session could not be kept: %s", error)

    # text and tokens: these wait for nobody

    @property
    def info(self) -> EngineInfo:
        """See :attr:`Runtime.info`."""
        return self._engine.info

    @property
    def n_cached(self) -> int:
        """See :attr:`Runtime.n_cached`. Cells that conversations share count for each."""
        return sum(len(seat.active.kv.tokens) for seat in self._pool.seats)

    def tokenize(self, text: str | Prompt, *, add_special: bool, parse_special: bool) -> list[int]:
        """See :meth:`Runtime.tokenize`."""
        if isinstance(text, Prompt):
            return self._spelling.tokenize(text)
        return self._engine.tokenize(text, add_special=add_special, parse_special=parse_special)

    def token_bytes(self, token: int) -> bytes:
        """See :meth:`Runtime.token_bytes`."""
        return self._engine.token_bytes(token)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """See :meth:`Runtime.render`."""
        return self._spelling.render(messages, add_generation_prompt=add_generation_prompt)

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Runtime.ask`."""
        return self._spelling.ask(messages, wish)

    @property
    def tool_form(self) -> ToolForm | None:
        """See :attr:`Runtime.tool_form`."""
        template = self._spelling.template
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
        seat = self._pool.switch(session, or_empty=or_empty)
        self._pool.rest(seat, copy=copy)
        try:
            result = work(seat.active)
        except BaseException:
            self._pool.switch(session)
            raise
        self._pool.is_now(seat, session)
        return result

    def past(self, session: str) -> Snapshot:
        """See :meth:`Runtime.past`."""
        for turn in self._pool.turns():
            if turn.session == session and turn.ended and not self._scheduler.is_inside:
                while not turn.done:  # it only has to stop
                    self._scheduler.go_on(turn, turn.is_done, reading=False)
        return self._pool.glance(session)

    def names(self) -> list[str]:
        """See :meth:`Runtime.names`."""
        return self._pool.names()

    def reset(self, session: str) -> None:
        """See :meth:`Runtime.reset`."""
        self._with(session, lambda: self._change(session, Active.reset, or_empty=True))

    def rewind(self, session: str, turns: int) -> None:
        """See :meth:`Runtime.rewind`."""
        self._with(
            session,
            lambda: self._change(session, lambda active: active.rewind(turns)),
            Capability.SESSION_TOOLS,
        )

    def fork(self, session: str, name: str | None) -> str:
        """See :meth:`Runtime.fork`."""
        return self._with(session, lambda: self._pool.fork(session, name), Capability.SESSION_TOOLS)

    def delete(self, session: str) -> None:
        """See :meth:`Runtime.delete`."""
        self._with(session, lambda: self._pool.delete(session))

    # adapters

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """See :attr:`Runtime.adapters`."""
        return self._engine.info.adapters

    def set_adapters(self, adapters: Sequence[tuple[AdapterFile, float]]) -> None:
        """See :meth:`Runtime.set_adapters`. What the KV cache held is owed."""
        wanted = read_adapters([(find_model(given), scale) for given, scale in adapters])

        def work() -> None:
            try:
                self._engine.set_adapters(wanted)
            finally:
                self._pool.check()

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

        # With one sequence, a half-read answer is computed first, as for each other call.
        look = self._nothing if self._engine.info.n_parallel > 1 else None
        sequences = read()
        rows: dict[int, memoryview] = {}
        for batch in in_batches([len(tokens) for tokens in sequences], self._engine.info.n_batch):
            if on_progress is not None:
                on_progress(Progress("embed", len(rows), len(sequences), "texts"))
            work = partial(compute, [sequences[i] for i in batch])
            found = self._alone(work, needs, look)
            size = len(found) // len(batch)
            rows |= {i: found[k * size : (k + 1) * size] for k, i in enumerate(batch)}
        if on_progress is not None:
            on_progress(Progress("embed", len(rows), len(sequences), "texts"))
        return [rows[i] for i in range(len(sequences))]

    # files

    def save(self, session: str, path: PathLike, sampling: SamplingParams) -> SessionInfo:
        """See :meth:`Runtime.save`."""
        from ..files.manifest import write_snapshot  # 8 ms with json: see prepare_files()

        snapshot, made_with = self._with(
            session,
            lambda: self._copied(self._pool.switch(session).active),
            Capability.SESSION_PERSISTENCE,
        )
        # From here on others compute: a disk, or a network, may take its time.
        return write_snapshot(path, snapshot, made_with, sampling)

    def _copied(self, active: Active) -> tuple[Snapshot, MadeWith]:
        """A conversation with a copy of all its KV cache, and what that was made with."""
        active.kv.check()
        if not active.exists:
            raise NoSession("there is no session to save: generate something first")
        if active.kv.owed:
            self._engine.clear_cancel()
            active.kv.append([])
        return active.snapshot(), active.made_with

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

        return self._with(session, work, Capability.SESSION_PERSISTENCE)

    def verify(self, path: PathLike, *, deep: bool, on_progress: OnProgress | None) -> Verification:
        """See :meth:`Runtime.verify`."""
        from .verify import verify_file  # 4 ms: rarely used

        def work() -> Verification:
            seat = self._pool.free_seat()
            name = seat.name
            self._pool.rest(seat)
            try:
                return verify_file(seat.active, path, deep, on_progress)
            finally:
                seat.active.reset()
                if name is not None:
                    self._pool.switch(name)

        return self._alone(work, Capability.SESSION_PERSISTENCE, lambda: self._in_the_way(None))

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
        scheduler = self._scheduler
        if scheduler.is_inside:
            if self._folder is not None:
                self._folder.need()
            return  # from inside on_progress: the engine is freed when that call ends
        while scheduler.lock.locked():  # repeatedly: work that is just starting clears a cancel
            self.cancel()
            time.sleep(_CLOSING)
        with scheduler.lock:
            self._free_if_closed()
        scheduler.tell()

    def _check_open(self) -> None:
        if self._closed or self._retired:
            raise ClosedError("this LlamaBridge is closed: make a new one")

    def _free_if_closed(self) -> None:
        """Free the engine if the runtime is closed."""
        if self._closed:
            self._free()

    def _free(self) -> None:
        scheduler, pool = self._scheduler, self._pool
        for turn in pool.turns():
            turn.end()  # what was said stays, in the folder too
        try:
            while turns := pool.turns():
                scheduler.compute(turns[0], reading=False)
                scheduler.tell()
        finally:
            try:
                pool.keep_all()
            except BridgeError as error:
                _log.error("a session could not be kept: %s", error)
            finally:
                pool.close()
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
        if self._scheduler.lock.acquire(
            timeout=_ENDING
        ):  # a computing thread may be stuck for ever
            try:
                self._closed = True
                self._free()
            finally:
                self._scheduler.lock.release()
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


def _weakly(method: Callable[P, None]) -> Callable[P, None]:
    """A method that does not keep its object, which is freed as soon as nobody uses it."""
    reference = weakref.WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        found = reference()
        if found is not None:
            found(*args, **kwargs)

    return call


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
