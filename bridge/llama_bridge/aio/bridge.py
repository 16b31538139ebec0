"""AsyncLlamaBridge: LlamaBridge for asyncio and trio, with the same names."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, cast, overload

from .. import registry
from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..chat.form import ToolForm
from ..checks import shown
from ..claim import CLAIM, Claim
from ..engine import EngineInfo
from ..errors import InvalidInput, NoModel, PathLike
from ..models.adapter import Adapter, GivenAdapter, check_given
from ..models.source import ModelFile
from ..params import ModelParams, ModelSettings, SamplingParams
from ..progress import OnProgress
from ..runtime import Model
from ..served_model import meant
from ..vectors import Vectors
from .conversation import AsyncConversation, AsyncSession
from .twins import awaited, documented_as, stoppable
from .ways import Ways

__all__ = ["AsyncLlamaBridge"]


@documented_as(LlamaBridge)
class AsyncLlamaBridge(AsyncConversation[LlamaBridge]):
    """:class:`LlamaBridge` for asyncio and trio. The names, arguments and answers are the same; what waits is awaited.

    .. code-block:: python

        async with AsyncLlamaBridge("demo") as llama:
            print(await llama.generate("Hello!"))
            async for text in llama.generate_continue_stream("And now?"):
                print(text, end="")

    The constructor loads nothing: ``async with`` does, or ``llama = await AsyncLlamaBridge(...)``, or the first call that
    is awaited. A task that is cancelled ends the generation that it waits for, and no other; what was said stays in the
    conversation. A call that still waits for its turn is then never made.

    Any number of tasks, and of event loops, may use it. Functions for ``on_progress`` are called in the thread that does
    the work.

    Args:
        source: as in :class:`LlamaBridge`, and so is everything else. It is loaded when it is first needed.

    Raises:
        InvalidInput, SessionsLocked, SessionWriteError.
    """

    def __init__(
        self,
        source: Model | None = None,
        /,
        *,
        model: Model | None = None,
        backend: registry.Choice = registry.AUTO,
        failover: bool = False,
        untrusted: bool = False,
        adapters: Sequence[GivenAdapter] = (),
        params: ModelParams | None = None,
        sampling: SamplingParams | None = None,
        system: str | None = None,
        on_progress: OnProgress | None = None,
        session_memory: int = 256 << 20,
        sessions_dir: PathLike | None = None,
        sessions_disk: int = 4 << 30,
        sessions_limit: int | None = None,
        **settings: Unpack[ModelSettings],
    ) -> None:
        wanted = meant(source, model)
        self._take(
            LlamaBridge(
                None,
                backend=backend,
                failover=failover,
                untrusted=untrusted,
                params=params,
                sampling=sampling,
                system=system,
                on_progress=on_progress,
                session_memory=session_memory,
                sessions_dir=sessions_dir,
                sessions_disk=sessions_disk,
                sessions_limit=sessions_limit,
                **settings,
            ),
            wanted,
            check_given(adapters),
        )

    @classmethod
    def of(cls, llama: LlamaBridge) -> Self:
        """The asynchronous calls of a bridge that exists, such as a :class:`~llama_bridge.testing.FakeLlama`.

        Both may be used. Closing one closes the other.

        Raises:
            InvalidInput: it is no LlamaBridge.
        """
        if not isinstance(llama, LlamaBridge):
            raise InvalidInput(f"llama={shown(llama)}: give a LlamaBridge")
        bridge = cls.__new__(cls)
        bridge._take(llama, None, [])
        return bridge

    def _take(
        self, llama: LlamaBridge, model: Model | None, adapters: Sequence[GivenAdapter]
    ) -> None:
        if adapters and model is None:
            llama.close()
            raise InvalidInput("adapters need a model: give both, here or to load_model()")
        self._first = _FirstLoad(llama, model, adapters)
        super().__init__(llama, _ways(), self._first.load)

    # the model

    async def _load(self) -> Self:
        try:
            await self._ways.run(self._ready, Claim())
        except BaseException:
            if self._first.pending:
                self._sync.close()
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._load().__await__()

    load_model = awaited(LlamaBridge.load_model, begins=True)
    init_generate_model = load_model
    """The same as :meth:`load_model`, under Llamatik's name."""

    @property
    def _loaded(self) -> LlamaBridge:
        if self._first.pending:
            raise NoModel(
                "the model is not loaded yet: use `async with`, or `llama = await AsyncLlamaBridge(...)`"
            )
        return self._sync

    @property
    def model(self) -> ModelFile:
        return self._loaded.model

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        return self._loaded.adapters

    set_adapters = awaited(LlamaBridge.set_adapters)

    @property
    def info(self) -> EngineInfo:
        return self._loaded.info

    @property
    def n_cached(self) -> int:
        return self._loaded.n_cached

    @property
    def tool_form(self) -> ToolForm | None:
        return self._loaded.tool_form

    @property
    def backend(self) -> str:
        return self._loaded.backend

    @property
    def model_name(self) -> str:
        return self._loaded.model_name

    @property
    def where(self) -> str:
        return self._loaded.where

    @property
    def capabilities(self) -> Capability:
        return self._loaded.capabilities

    def requires(self, capability: Capability | str) -> None:
        self._loaded.requires(capability)

    @property
    def sampling(self) -> SamplingParams:
        return self._sync.sampling

    @sampling.setter
    def sampling(self, value: SamplingParams) -> None:
        self._sync.sampling = value

    @property
    def system(self) -> str | None:
        return self._sync.system

    @system.setter
    def system(self, value: str | None) -> None:
        self._sync.system = value

    def cancel(self) -> None:
        self._sync.cancel()

    # sessions

    def session(self, name: str | None = None) -> AsyncSession:
        return AsyncSession(self._loaded.session(name), self._ways, self._ready)

    sessions = awaited(LlamaBridge.sessions)
    sessions_flush = awaited(LlamaBridge.sessions_flush)
    session_reset = awaited(LlamaBridge.session_reset)
    session_save = awaited(LlamaBridge.session_save)
    session_load = awaited(LlamaBridge.session_load)
    session_verify = awaited(LlamaBridge.session_verify)
    session_rewind = awaited(LlamaBridge.session_rewind)
    _session_fork = awaited(LlamaBridge.session_fork)

    async def session_fork(self, name: str | None = None) -> AsyncSession:
        return AsyncSession(await self._session_fork(name), self._ways, self._ready)

    # text and tokens: these wait for no answer

    tokenize = awaited(LlamaBridge.tokenize)
    detokenize = awaited(LlamaBridge.detokenize)
    apply_chat_template = awaited(LlamaBridge.apply_chat_template)

    # embeddings

    rerank = awaited(LlamaBridge.rerank)
    _embed = awaited(cast("Callable[..., Any]", LlamaBridge.embed))

    @overload
    async def embed(  # type: ignore[overload-overlap]  # a str is a sequence too, but the first match counts
        self,
        text: str,
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> memoryview[float]: ...
    @overload
    async def embed(
        self,
        text: Sequence[str],
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Vectors: ...
    async def embed(
        self,
        text: str | Sequence[str],
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> memoryview[float] | Vectors:
        found: memoryview[float] | Vectors = await self._embed(
            text, normalize=normalize, truncate=truncate, on_progress=on_progress
        )
        return found

    # life

    _close = awaited(LlamaBridge.close, begins=True)

    async def close(self) -> None:
        self._sync.cancel()
        await self._close()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _FirstLoad:
    """Loads the constructor's model, once; not part of the bridge, so that a dropped bridge is freed at once."""

    def __init__(
        self, llama: LlamaBridge, model: Model | None, adapters: Sequence[GivenAdapter]
    ) -> None:
        self._llama = llama
        self._model = model
        self._adapters = adapters
        self._loading = threading.Lock()

    @property
    def pending(self) -> bool:
        """Whether the model is still to be loaded. Another one may have been loaded instead."""
        if self._model is None:
            return False
        try:
            return not self._llama.backend
        except NoModel:
            return True

    def load(self) -> None:
        """Load it, if that is still to be done."""
        if self._model is None:
            return
        with self._loading:
            if self.pending:
                claim = CLAIM.get() or Claim()
                claim.begin()
                self._llama.load_model(
                    self._model,
                    adapters=self._adapters,
                    on_progress=stoppable(None, self._llama, claim),
                )
            self._model = None


def _ways() -> Ways:
    if sys.platform == "emscripten":
        from .slices import Slices  # a page has no threads

        return Slices()
    from .threads import Threads  # 30 ms: anyio, which no page has

    return Threads()
