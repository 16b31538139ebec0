"""LlamaBridge: one interface to models on every backend. The facade: loads models, says what they can do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack, overload

from . import loading, registry
from .capabilities import Capability, as_capability, capability_names
from .chat.message import check_messages
from .checks import (
    check_callback,
    check_count,
    check_flag,
    check_name,
    check_pieces,
    check_text,
    check_texts,
    shown,
)
from .conversation import Conversation, Shared
from .engine import EngineInfo
from .errors import (
    InvalidInput,
    NoModel,
    PathLike,
)
from .markup import rows
from .models.adapter import Adapter, GivenAdapter, check_given
from .models.source import ModelFile
from .params import ModelParams, ModelSettings, SamplingParams
from .progress import OnProgress
from .prompt import Prompt
from .refusal import refuse
from .request import DEFAULT
from .runtime import Model, Runtime, SessionStorage
from .served_model import meant
from .session import Session
from .snapshot import SessionInfo
from .vectors import Ranked, Vectors

if TYPE_CHECKING:
    from .chat.form import ToolForm
    from .files.folder import SessionFolder
    from .verification import Verification

__all__ = ["LlamaBridge"]

_log = logging.getLogger(__name__)


class LlamaBridge(Conversation):
    """A model and conversations with it.

    Calls from several threads take turns; :meth:`cancel` may come from any thread at any time. Use it as a
    context manager, or call :meth:`close`. A bridge that is dropped frees its model too, and its ``sessions_dir``
    once everything is written.

    Args:
        source: path of a GGUF file, ``"demo"``, or a :class:`ModelSource`; with ``backend="remote"`` the address of a
            server, or the name of a model on the one that ``LLAMA_BRIDGE_URL`` names. None loads no model yet.
        model: the model on the server, if ``source`` is the address of one; otherwise another name for ``source``.
        backend: ``"auto"``, a backend's name, or a :class:`Backend` object. Auto takes what
            ``LLAMA_BRIDGE_BACKEND`` names, else the best one available on this machine. Of a list, such as
            ``["remote", "native", "wasm"]``, the first is taken that is available and can load the model.
        failover: whether the next backend of such a list takes over if a server does not answer any more: a conversation
            goes on there with all that was said. ``fallback`` and one FallbackWarning say so.
        untrusted: whether to take only backends with a sandbox, whatever else is installed: for models that nobody
            vouches for. Such a backend may lack sessions; :attr:`capabilities` says what it can do.
        adapters: LoRA adapters of this model, as in :meth:`set_adapters`.
        params: load-time settings.
        sampling: how tokens are drawn, unless a call says otherwise.
        system: system message at the start of every new chat.
        on_progress: called with the progress of loads, and of the prefill in calls that give no function of
            their own.
        session_memory: bytes of memory for the KV caches of named sessions that are not in use; beyond it the
            least recently used go to a temporary folder.
        sessions_dir: folder that keeps named sessions. Each is written there in the background after every turn,
            and is loaded when it is first used in a later process. Only one bridge at a time can use the folder.
        sessions_disk: bytes that the folder may take; beyond it the least recently used sessions give up their KV
            caches. The conversations stay, and are evaluated again when they are used.
        sessions_limit: the most named sessions that the folder keeps; beyond it the least recently used are deleted.
            None keeps all of them.
        settings: single settings of :class:`ModelParams`, such as ``n_ctx=8192``. They override ``params`` and also
            apply to later loads.

    Raises:
        InvalidInput, BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory.
        UnsupportedCapability: ``sessions_dir`` with a backend that lacks ``SESSION_PERSISTENCE``.
        SessionsLocked: another bridge has ``sessions_dir``.
        SessionWriteError: ``sessions_dir`` cannot be written to.
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
        super().__init__(Shared(on_progress=check_callback("on_progress", on_progress)), DEFAULT)
        check_flag("failover", failover)
        self._untrusted = check_flag("untrusted", untrusted)
        self._params = loading.chosen(ModelParams(), params, settings)
        self._folder: SessionFolder | None = None
        self.sampling = sampling if sampling is not None else SamplingParams()
        self.system = system
        check_count("session_memory", session_memory)
        check_count("sessions_disk", sessions_disk)
        if sessions_limit is not None:
            check_count("sessions_limit", sessions_limit, least=1)
        if sessions_dir is not None:
            from .files.folder import SessionFolder  # 4 ms, for those who keep a folder

            self._folder = SessionFolder.open(sessions_dir, sessions_disk, sessions_limit)
        storage = SessionStorage(session_memory, self._folder)
        self._loader = loading.Loader(
            self._shared, backend, storage, untrusted=untrusted, failover=failover
        )
        try:
            if wanted is not None:
                self.load_model(wanted, adapters=adapters)
            elif check_given(adapters):
                raise InvalidInput("adapters need a model: give both, here or to load_model()")
        except BaseException:
            self.close()
            raise

    # the model

    def load_model(
        self,
        model: Model,
        params: ModelParams | None = None,
        *,
        adapters: Sequence[GivenAdapter] = (),
        unload_first: bool = False,
        on_progress: OnProgress | None = None,
        **settings: Unpack[ModelSettings],
    ) -> None:
        """Load a model in place of the current one. If it cannot be loaded, the current one stays in use.

        The conversations with the current model end; those in ``sessions_dir`` stay there.

        Args:
            model: as for the constructor.
            params: load-time settings; None keeps those of the constructor.
            adapters: LoRA adapters of this model, as in :meth:`set_adapters`. Those of the constructor belong to its model.
            unload_first: free the current model before the new one is read, on a machine that cannot hold both.
                If the new one cannot be loaded, the bridge is left without a model.
            on_progress: called with the progress of the load; None takes the bridge's.
            settings: single settings of :class:`ModelParams`, for this load.

        Raises:
            InvalidInput, BackendUnavailable, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory, ClosedError.
        """
        shared = self._shared
        progress = check_callback("on_progress", on_progress) or shared.on_progress
        check_flag("unload_first", unload_first)
        given = check_given(adapters)
        chosen = loading.chosen(self._params, params, settings)
        self._loader.load(model, chosen, given, progress, unload_first=unload_first)

    init_generate_model = load_model
    """The same as :meth:`load_model`, under Llamatik's name."""

    @property
    def model(self) -> ModelFile:
        """The loaded model file: its path, name, architecture, quantisation, parameters, context length, chat template
        and ``metadata``.

        Raises:
            NoModel: no model is loaded, or the backend has no file for it here.
        """
        runtime = self._shared.alive()
        if runtime.model is None:
            raise NoModel(f"the {runtime.backend} backend has no model file here")
        return runtime.model

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The LoRA adapters in force, each content once, without those whose scale is 0."""
        return self._shared.alive().adapters

    def set_adapters(self, adapters: Sequence[GivenAdapter]) -> None:
        """Put LoRA adapters in force in place of those before; an empty list takes all away.

        Several act together, and their changes add up. Conversations go on: what they hold is evaluated again with the
        adapters of now, when they are next used.

        Args:
            adapters: paths of GGUF files or :class:`ModelSource` objects, each alone or in a pair with its scale, as in
                ``["style.gguf", ("facts.gguf", 0.5)]``. The scale is 1 otherwise.

        Raises:
            InvalidInput, ModelNotFound.
            InvalidModel: a file is no LoRA adapter, is damaged, or was made for another model.
            ModelLoadError, OutOfMemory: the engine cannot load one.
            UnsupportedCapability: the backend lacks ``ADAPTERS``.
            After any of them, the adapters before are still in force.
        """
        given = check_given(adapters)
        self._shared.do(Capability.ADAPTERS, lambda runtime: runtime.set_adapters(given))

    @property
    def info(self) -> EngineInfo:
        """Facts about the loaded model and its context, such as ``n_ctx``.

        Raises:
            UnsupportedCapability: the backend lacks ``TOKENS``.
        """
        return self._shared.do(Capability.TOKENS, lambda runtime: runtime.info)

    @property
    def n_cached(self) -> int:
        """How many tokens the KV cache holds now, of the ``info.n_ctx`` that it has room for. Does not wait for an answer.

        A beginning that several conversations share counts for each of them.

        Raises:
            UnsupportedCapability: the backend lacks ``TOKENS``.
        """
        return self._shared.do(Capability.TOKENS, lambda runtime: runtime.n_cached)

    @property
    def tool_form(self) -> ToolForm | None:
        """How tools are told to this model in a chat.

        ``"template"`` if its chat template describes tools and has a form for calls; ``"own"`` if it has not, so that
        this library describes them in the system message and has them called as JSON, which the model was not trained
        for; None without a chat template.

        Raises:
            NoModel, ClosedError, TemplateError.
        """

        def form(runtime: Runtime) -> ToolForm | None:
            return runtime.tool_form if Capability.TOOLS in runtime.capabilities else None

        return self._shared.do(Capability(0), form)

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._shared.alive().backend

    @property
    def model_name(self) -> str:
        """What the model is called: the name of its file, or of a server's model.

        Raises:
            NoModel, ClosedError.
        """
        return self._shared.alive().name or self.model.name

    @property
    def where(self) -> str:
        """The model and where it is, in words, if it is on a server; otherwise empty."""
        return self._shared.alive().where

    @property
    def capabilities(self) -> Capability:
        """What the loaded model can do on this backend."""
        return self._shared.alive().capabilities

    def requires(self, capability: Capability | str) -> None:
        """Check for capabilities before work starts.

        Args:
            capability: flags, or the name of one: ``"session_persistence"``.

        Raises:
            UnsupportedCapability: names the first one that is missing.
            InvalidInput: there is no such capability; lists those that exist.
        """
        wanted = as_capability(capability)
        refuse(self._shared.alive(), wanted)

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn, unless a call says otherwise."""
        return self._shared.sampling

    @sampling.setter
    def sampling(self, value: SamplingParams) -> None:
        if not isinstance(value, SamplingParams):
            raise InvalidInput(f"sampling={shown(value)}: give a SamplingParams")
        self._shared.sampling = value

    @property
    def system(self) -> str | None:
        """System message at the start of every new chat, or None."""
        return self._shared.system

    @system.setter
    def system(self, value: str | None) -> None:
        self._shared.system = None if value is None else check_text("system", value)

    def cancel(self) -> None:
        """End all answers that were asked for before this, soon, in prefill or decode. Works from any thread.

        Without any it does nothing: the next one is not touched.
        """
        if (runtime := self._shared.runtime) is not None:
            runtime.cancel()

    # sessions

    def session(self, name: str | None = None) -> Session:
        """The conversation with this name, which is empty if it is new; None is the bridge's own.

        Raises:
            UnsupportedCapability: a name was given, and the backend lacks ``SESSION_TOOLS``.
            InvalidInput: the name is empty, not text, or too long for a file.
        """
        runtime = self._shared.alive()
        if name is None:
            return Session(self._shared, DEFAULT)
        check_name(name)
        refuse(runtime, Capability.SESSION_TOOLS)
        return Session(self._shared, name)

    def sessions(self) -> list[str]:
        """Names of the named sessions, least recently used first.

        Raises:
            SessionCorrupt: ``sessions_dir`` cannot be read.
        """
        return self._shared.alive().names()

    def sessions_flush(self) -> None:
        """Wait until all named sessions are written to ``sessions_dir``. :meth:`close` does this too.

        Raises:
            SessionWriteError: a session cannot be written. It stays in memory for another try.
        """
        if self._folder is not None:
            self._folder.flush()

    def session_reset(self) -> None:
        """Forget the bridge's own conversation; see :meth:`Session.reset`."""
        self.session().reset()

    def session_save(self, path: PathLike) -> SessionInfo:
        """Write the bridge's own conversation to a file; see :meth:`Session.save`."""
        return self.session().save(path)

    def session_load(
        self,
        path: PathLike,
        *,
        replay: bool = False,
        trust_unverified: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SessionInfo:
        """Make a saved conversation the bridge's own; see :meth:`Session.load`."""
        return self.session().load(
            path, replay=replay, trust_unverified=trust_unverified, on_progress=on_progress
        )

    def session_verify(
        self, path: PathLike, *, deep: bool = False, on_progress: OnProgress | None = None
    ) -> Verification:
        """Check a session file; see :meth:`Session.verify`."""
        return self.session().verify(path, deep=deep, on_progress=on_progress)

    def session_rewind(self, turns: int = 1) -> None:
        """Undo the last turns of the bridge's own conversation; see :meth:`Session.rewind`."""
        self.session().rewind(turns)

    def session_fork(self, name: str | None = None) -> Session:
        """Copy the bridge's own conversation to a new session; see :meth:`Session.fork`."""
        return self.session().fork(name)

    # text and tokens: these wait for no answer

    def tokenize(
        self, text: str | Prompt, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text in the model's vocabulary; of a :class:`Prompt`, those that it is evaluated as.

        ``add_special`` adds what the model wants around a text, such as BOS. ``parse_special`` reads control tokens
        that are spelled in the text. A :class:`Prompt` says both itself.
        """
        if isinstance(text, Prompt):
            check_pieces("text", text)
        else:
            check_text("text", text)
        check_flag("add_special", add_special)
        check_flag("parse_special", parse_special)
        return self._shared.do(
            Capability.TOKENS,
            lambda runtime: runtime.tokenize(
                text, add_special=add_special, parse_special=parse_special
            ),
        )

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids. Control tokens give no text; bytes that are not UTF-8 become U+FFFD."""
        given: object = tokens
        text = isinstance(given, str | bytes | bytearray | memoryview)
        if text or not isinstance(given, Sequence):
            raise InvalidInput(f"tokens={shown(tokens)}: give a list of token ids")

        def spell(runtime: Runtime) -> bytes:
            last = runtime.info.n_vocab - 1
            for token in tokens:
                if isinstance(token, bool) or not isinstance(token, int):
                    raise InvalidInput(f"tokens must be whole numbers, got {shown(token)}")
                if not 0 <= token <= last:
                    raise InvalidInput(
                        f"token {shown(token)} is not in the vocabulary (0 to {last})"
                    )
            return b"".join(map(runtime.token_bytes, tokens))

        return self._shared.do(Capability.TOKENS, spell).decode("utf-8", "replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = True
    ) -> Prompt:
        """Write messages as the model's own chat template does, for :meth:`generate`; ``str()`` shows the text.

        What the messages say is kept apart from what the template writes: none of it becomes a control token.

        Raises:
            UnsupportedCapability: the model has no chat template.
            InvalidInput, TemplateError.
        """

        check_flag("add_generation_prompt", add_generation_prompt)

        def render(runtime: Runtime) -> Prompt:
            checked = check_messages(messages)
            return runtime.render(checked, add_generation_prompt=add_generation_prompt)

        return self._shared.do(Capability.CHAT_TEMPLATE, render)

    # embeddings

    @overload
    def embed(  # type: ignore[overload-overlap]  # a str is a sequence too, but the first match counts
        self,
        text: str,
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> memoryview[float]: ...
    @overload
    def embed(
        self,
        text: Sequence[str],
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Vectors: ...
    def embed(
        self,
        text: str | Sequence[str],
        *,
        normalize: bool = True,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> memoryview[float] | Vectors:
        """The meaning of a text as a vector of ``info.n_embd`` float32 numbers; of several texts, as :class:`Vectors`.

        The bridge's conversations stay as they are. What a text spells never becomes a control token.

        Args:
            text: one text, which gives one vector, or a list, which is computed many at a time.
            normalize: scale each vector to the length 1, so that the dot product of two is their cosine similarity.
            truncate: cut texts that are longer than ``info.n_ctx`` tokens instead of refusing them.
            on_progress: called with how many texts are done; None takes the bridge's.

        Raises:
            UnsupportedCapability: the model lacks ``EMBEDDINGS``, because it was made to generate or is a reranker.
            ContextOverflow: a text is too long; the message names it by its index. Nothing was computed.
            InvalidInput: a text has no tokens.
            Cancelled: :meth:`cancel` was called before all were computed.
            EngineError, OutOfMemory, ClosedError.
        """
        texts = [check_text("text", text)] if isinstance(text, str) else check_texts("text", text)
        check_flag("normalize", normalize)
        check_flag("truncate", truncate)
        progress = check_callback("on_progress", on_progress) or self._shared.on_progress
        vectors = self._shared.do(
            Capability.EMBEDDINGS,
            lambda runtime: runtime.embed(texts, truncate=truncate, on_progress=progress),
        )
        if normalize:
            vectors = vectors.normalized()
        return vectors[0] if isinstance(text, str) else vectors

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Ranked]:
        """How well each document fits a query: pairs of index and score, best first.

        Equal scores stay in the order of the documents.

        Args:
            query: what is looked for.
            documents: where; each is read together with the query.
            truncate: cut documents that do not fit ``info.n_ctx`` tokens with the query, instead of refusing them.
            on_progress: called with how many documents are done; None takes the bridge's.

        Raises:
            UnsupportedCapability: the model lacks ``RERANK``.
            ContextOverflow: a document is too long; the message names it by its index. Nothing was computed.
            Cancelled, EngineError, OutOfMemory, ClosedError.
        """
        check_text("query", query)
        texts = check_texts("documents", documents)
        check_flag("truncate", truncate)
        progress = check_callback("on_progress", on_progress) or self._shared.on_progress
        scores = self._shared.do(
            Capability.RERANK,
            lambda runtime: runtime.rank(query, texts, truncate=truncate, on_progress=progress),
        )
        ranked = [Ranked(index, score) for index, score in enumerate(scores)]
        return sorted(ranked, key=lambda each: -each.score)

    # life

    def close(self) -> None:
        """Cancel what is running and free the model. Closing twice does nothing.

        Raises:
            SessionWriteError: a named session could not be written to ``sessions_dir``; everything else is freed.
        """
        self._shared.closed = True
        folder, self._folder = self._folder, None
        try:
            if (runtime := self._shared.runtime) is not None:
                runtime.close()
        finally:
            if folder is not None:
                folder.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._facts().values())})"

    def _repr_html_(self) -> str:
        facts = self._facts()
        if (runtime := self._shared.runtime) is not None and not self._shared.closed:
            facts["can"] = ", ".join(capability_names(runtime.capabilities))
        return rows(type(self).__name__, facts)

    def _facts(self) -> dict[str, str]:
        """What it is, in a few words. Waits for nothing and raises nothing."""
        shared, runtime = self._shared, self._shared.runtime
        if shared.closed:
            return {"state": "closed"}
        if runtime is None:
            return {"model": "no model"}
        facts = {
            "model": runtime.model.name if runtime.model else runtime.where or "a model elsewhere"
        }
        facts["backend"] = runtime.backend
        if self._untrusted:
            facts["trust"] = "untrusted"
        if Capability.TOKENS in runtime.capabilities:
            facts["context"] = f"n_ctx={runtime.info.n_ctx}"
        return facts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
