"""LlamaBridge: one interface to llama.cpp on every backend. The facade: loads models, shows what they can do."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from types import TracebackType

from . import registry
from .capabilities import Capability
from .chat.template import check_messages
from .checks import check_text
from .conversation import Conversation, NamedSession
from .engine import Backend, Engine, EngineInfo
from .errors import BackendUnavailable, InvalidInput, UnsupportedCapability
from .local.local_runtime import Core
from .local.pool import DEFAULT
from .models.source import ModelFile, ModelSource, open_model
from .params import ModelParams, SamplingParams

__all__ = ["LlamaBridge"]

_log = logging.getLogger(__name__)


class LlamaBridge(Conversation):
    """A model and one conversation with it.

    Calls from several threads queue; :meth:`cancel` may come from any thread at any time. Use it as a
    context manager, or call :meth:`close`. One that is dropped frees its model, too, and its ``sessions_dir`` when
    what waits is written.

    Args:
        model: path of a GGUF file, ``"demo"``, or a :class:`~llama_bridge.models.source.ModelSource`; None loads none yet.
        backend: ``"auto"``, a backend's name, or a :class:`~llama_bridge.engine.Backend` object. Auto takes
            what ``LLAMA_BRIDGE_BACKEND`` names, else the best one available.
        params: load-time settings.
        sampling: how tokens are drawn where a call does not say.
        system: system message at the start of every fresh chat.
        session_memory: bytes of memory for the KV caches of named sessions at rest; beyond it the least
            recently used go to the disk.
        sessions_dir: folder that keeps named sessions: each is written there after every turn, in the background,
            and comes back with its first use in a later process. One bridge at a time has it.
        sessions_disk: bytes that the folder may take; beyond it the least recently used sessions go.

    Raises:
        BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory.
        UnsupportedCapability: ``sessions_dir`` with a backend that lacks ``SESSION_PERSISTENCE``.
        SessionsLocked: another bridge has ``sessions_dir``.
        SessionWriteError: it cannot be written to.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSource | None = None,
        *,
        backend: str | Backend = registry.AUTO,
        params: ModelParams | None = None,
        sampling: SamplingParams | None = None,
        system: str | None = None,
        session_memory: int = 256 << 20,
        sessions_dir: str | os.PathLike[str] | None = None,
        sessions_disk: int = 4 << 30,
    ) -> None:
        super().__init__(Core(), DEFAULT)
        self._backend_choice = backend
        self._session_memory = session_memory
        self.sampling = sampling if sampling is not None else SamplingParams()
        self.system = system
        if sessions_dir is not None:
            from .files.folder import SessionFolder  # few need it, and it takes a while

            self._core.folder = SessionFolder(sessions_dir, sessions_disk)
        try:
            if model is not None:
                self.init_generate_model(model, params)
        except BaseException:
            self.close()
            raise

    # the model

    def init_generate_model(
        self, model: str | os.PathLike[str] | ModelSource, params: ModelParams | None = None
    ) -> None:
        """Load a model, in place of the loaded one; one that cannot be loaded leaves that in use.

        Raises:
            BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory, ClosedError.
        """
        with self._core.exclusive(need_model=False):
            file = open_model(model)
            engine = self._load(file, params or ModelParams())
            if self._core.folder is not None:
                try:
                    self._core.check(engine, Capability.SESSION_PERSISTENCE)
                except UnsupportedCapability:
                    engine.close()
                    raise
            self._core.put(engine, file, self._session_memory)

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
        return self._core.alive()[1]

    @property
    def info(self) -> EngineInfo:
        """Numbers of the loaded model and its context, ``n_ctx`` among them."""
        return self._core.alive()[0].info

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._core.alive()[0].backend

    @property
    def capabilities(self) -> Capability:
        """What the loaded model can do on this backend."""
        return self._core.alive()[0].capabilities

    def requires(self, capability: Capability) -> None:
        """Make sure of capabilities before work starts.

        Raises:
            UnsupportedCapability: names the first that is missing.
        """
        self._core.requires(capability)

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn where a call does not say."""
        return self._core.sampling

    @sampling.setter
    def sampling(self, value: SamplingParams) -> None:
        if not isinstance(value, SamplingParams):
            raise InvalidInput(f"sampling={value!r}: give a SamplingParams")
        self._core.sampling = value

    @property
    def system(self) -> str | None:
        """System message at the start of every fresh chat, or None."""
        return self._core.system

    @system.setter
    def system(self, value: str | None) -> None:
        self._core.system = None if value is None else check_text("system", value)

    @property
    def session(self) -> NamedSession:
        """The bridge's own conversation: ``.tokens``, ``.messages``; called with a name, another one."""
        self._core.alive()
        return NamedSession(self._core, DEFAULT)

    def sessions(self) -> list[str]:
        """Names of the named sessions, the least recently used first."""
        return self._core.alive()[2].names()

    def sessions_flush(self) -> None:
        """Wait until all named sessions are in ``sessions_dir``; :meth:`close` does it, too.

        Raises:
            SessionWriteError: one cannot be written. It stays in memory for another try.
        """
        if self._core.folder is not None:
            self._core.folder.flush()

    def cancel(self) -> None:
        """End the running generation soon, in prefill or decode. From any thread; idle, it does nothing."""
        self._core.cancel()

    # text and tokens

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Token ids of a text in the model's vocabulary.

        ``add_special`` adds the model's BOS and the like; ``parse_special`` reads control tokens in the text.
        """
        check_text("text", text)
        with self._core.reading() as (engine, _, _):
            return engine.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids; control tokens give none, bytes that are no UTF-8 give U+FFFD."""
        if not isinstance(tokens, Sequence):
            raise InvalidInput(f"tokens={tokens!r}: give a list of token ids")
        with self._core.reading() as (engine, _, _):
            for token in tokens:
                if isinstance(token, bool) or not isinstance(token, int):
                    raise InvalidInput(f"tokens must be whole numbers, got {token!r}")
                if not 0 <= token < engine.info.n_vocab:
                    last = engine.info.n_vocab - 1
                    raise InvalidInput(f"token {token} is not in the vocabulary (0 to {last})")
            return b"".join(map(engine.token_bytes, tokens)).decode("utf-8", "replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = True
    ) -> str:
        """The messages as the model's own template writes them.

        Raises:
            UnsupportedCapability: the model has no template.
            InvalidInput, TemplateError.
        """
        self._core.requires(Capability.CHAT_TEMPLATE)
        checked = check_messages(messages)
        with self._core.reading() as (_, _, sessions):
            template = sessions.session.template
            assert template is not None
            return template.render(checked, add_generation_prompt=add_generation_prompt)

    def embed(self, text: str | Sequence[str]) -> list[float] | list[list[float]]:
        """Embedding vectors; needs ``Capability.EMBEDDINGS``, which no backend has yet."""
        self.requires(Capability.EMBEDDINGS)
        raise AssertionError("unreachable: no backend has the capability")

    # life

    def close(self) -> None:
        """Cancel what runs, free the model. Twice is silent.

        Raises:
            SessionWriteError: a named session could not be written to ``sessions_dir``; all else is freed.
        """
        self._core.close()

    def __enter__(self) -> LlamaBridge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
