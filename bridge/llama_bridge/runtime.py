"""Contract 1: a runtime answers requests. It is all that the bridge knows of a backend.

The runtime for an engine that works on tokens exists already (:mod:`llama_bridge.local`): a backend with such an engine
subclasses :class:`~llama_bridge.local.engine_backend.EngineBackend`. A backend that answers in text, such as one for a
server, subclasses :class:`Backend` and :class:`Runtime`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .capabilities import Capability
from .chat.message import Message
from .checks import NotCopied
from .engine import EngineInfo
from .errors import UnsupportedCapability
from .models.adapter import Adapter, AdapterFile
from .models.source import DEMO, ModelFile, ModelSource
from .params import ModelParams, SamplingParams
from .progress import OnProgress
from .prompt import Prompt
from .request import Request
from .snapshot import SessionInfo, Snapshot
from .stream import PendingAnswer
from .vectors import Vectors

if TYPE_CHECKING:
    from .chat.form import ChatPrompt, ChatWish, ToolForm
    from .files.folder import SessionFolder
    from .verification import Verification

__all__ = ["Availability", "Backend", "Model", "Runtime", "ServedModel", "SessionStorage"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model on a server.

    Attributes:
        server: the server's address.
        model: the model there; for backends that load models themselves, the model to load instead.
    """

    server: str
    model: str | os.PathLike[str] | ModelSource


Model = str | os.PathLike[str] | ModelSource | ServedModel
"""A model to load: a path, ``"demo"``, a name such as ``"hf:org/repo"``, a source, or whatever else a backend understands."""


class Runtime(NotCopied, ABC):
    """A loaded model that answers requests.

    Calls come from any thread. Only :meth:`answer` and the operations on conversations may wait, and only for a running
    computation, never for a reader. All raise ClosedError after :meth:`close`.

    Methods under a flag are called only if :attr:`capabilities` has it; leave out what the runtime cannot do.

    Attributes:
        backend: name of the backend that made it.
        capabilities: what this model can do here.
        model: the model's file, or None if there is none here.
        where: the model and where it is, in words, if there is no file of it here.
        untrusted: whether the model may only run in a sandbox; the bridge sets it.
    """

    backend: str
    capabilities: Capability
    model: ModelFile | None = None
    where: str = ""
    untrusted: bool = False

    @abstractmethod
    def answer(self, request: Request) -> PendingAnswer:
        """Start an answer. Errors that can be known in advance are raised here, before anything starts.

        Raises:
            InvalidInput, ContextOverflow, TemplateError, EngineError, ClosedError.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End all answers asked for so far, soon, as ``"cancelled"``. Works from any thread and takes no lock."""

    def retire(self) -> None:
        """Take no more requests: from now on they raise ClosedError. Answers that have started are finished.

        Called before another model takes over.
        """

    @abstractmethod
    def close(self) -> None:
        """End the running answer and free everything. Closing twice does nothing."""

    def why_not(self, flag: Capability) -> str:
        """Why a capability is missing, and what to do, if that is for this runtime to say; otherwise empty."""
        return ""

    # with Capability.TOKENS

    @property
    def info(self) -> EngineInfo:
        """Facts about the model and its context."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    @property
    def n_cached(self) -> int:
        """How many tokens the KV cache holds now, of all conversations. Does not wait for an answer."""
        return 0

    def tokenize(self, text: str | Prompt, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of a text; for a prompt, those that :meth:`answer` evaluates."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token in the vocabulary; none for a control token."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    # with Capability.CHAT_TEMPLATE

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """Render messages with the model's own chat template. Their text never becomes a control token."""
        raise UnsupportedCapability(Capability.CHAT_TEMPLATE, self.backend)

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """Render a chat for an answer that will be read: tools told, calls constrained. Evaluates nothing.

        Raises:
            InvalidInput, TemplateError.
        """
        raise UnsupportedCapability(Capability.CHAT_TEMPLATE, self.backend)

    @property
    def tool_form(self) -> ToolForm | None:
        """How :meth:`ask` tells tools to the model; None if it cannot."""
        return None

    # with Capability.ADAPTERS

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """The LoRA adapters in force, those with the scale 0 left out."""
        return ()

    def set_adapters(self, adapters: Sequence[tuple[AdapterFile, float]]) -> None:
        """Put LoRA adapters in force in place of the others. Conversations stay; after an error nothing has changed.

        Raises:
            InvalidInput, ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory.
        """
        raise UnsupportedCapability(Capability.ADAPTERS, self.backend)

    # with Capability.EMBEDDINGS

    def embed(
        self, texts: Sequence[str], *, truncate: bool, on_progress: OnProgress | None
    ) -> Vectors:
        """One vector for each text, as the model gives it: its length is not changed.

        Raises:
            ContextOverflow: a text is too long, and ``truncate`` is False. The message names it by its index.
            InvalidInput: a text has no tokens.
            Cancelled, EngineError, OutOfMemory, ClosedError.
        """
        raise UnsupportedCapability(Capability.EMBEDDINGS, self.backend)

    # with Capability.RERANK

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool,
        on_progress: OnProgress | None,
    ) -> list[float]:
        """How well each document fits the query, in the order of the documents. Errors are those of :meth:`embed`."""
        raise UnsupportedCapability(Capability.RERANK, self.backend)

    # conversations: a runtime that answers each prompt on its own keeps the defaults

    def past(self, session: str) -> Snapshot:
        """A conversation without its KV cache. Does not wait for an answer."""
        return Snapshot()

    def reset(self, session: str) -> None:
        """Forget the conversation but keep its name."""

    # with Capability.SESSION_TOOLS

    def names(self) -> list[str]:
        """Names of all conversations except the bridge's own, least recently used first."""
        return []

    def rewind(self, session: str, turns: int) -> None:
        """Undo the last turns."""
        raise UnsupportedCapability(Capability.SESSION_TOOLS, self.backend)

    def fork(self, session: str, name: str | None) -> str:
        """Start a conversation with the history of another; returns its name."""
        raise UnsupportedCapability(Capability.SESSION_TOOLS, self.backend)

    def delete(self, session: str) -> None:
        """Forget a conversation and its name."""
        self.reset(session)

    # with Capability.SESSION_PERSISTENCE

    def save(
        self, session: str, path: str | os.PathLike[str], sampling: SamplingParams
    ) -> SessionInfo:
        """Write a conversation to a file."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def load(
        self,
        session: str,
        path: str | os.PathLike[str],
        *,
        replay: bool,
        trust_unverified: bool,
        on_progress: OnProgress | None,
    ) -> SessionInfo:
        """Replace the conversation by the one in a file. If the file is refused, nothing has changed."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def verify(
        self, path: str | os.PathLike[str], *, deep: bool, on_progress: OnProgress | None
    ) -> Verification:
        """Compare a file with this model and context."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)


@dataclass(frozen=True, slots=True)
class SessionStorage:
    """Where conversations are kept while they do not have the KV cache.

    Attributes:
        memory: bytes that copies of KV caches may use.
        folder: keeps named conversations, or None. It belongs to the bridge and outlives each model.
    """

    memory: int = 256 << 20
    folder: SessionFolder | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can be used here.

    Attributes:
        name: name of the backend.
        ok: whether it can be used.
        reason: why not, or a note.
        hint: a command or step that makes it available.
        version: version of its engine, if that is cheap to find out.
    """

    name: str
    ok: bool
    reason: str = ""
    hint: str = ""
    version: str = ""


class Backend(ABC):
    """A way to run models. Published through the entry-point group ``llama_bridge.backends``.

    Attributes:
        name: the name that users give.
        rank: the highest available one is chosen.
        capabilities: what it can do at best; a loaded model may do less.
        asks_servers: whether it takes a :class:`ServedModel`, or the address of a server. Such a backend is only taken if
            it is asked for by name.
    """

    name: str
    rank: int
    capabilities: Capability
    asks_servers: bool = False

    @abstractmethod
    def probe(self) -> Availability:
        """Check whether it can be used here. Must be quick, never raise, and import as little as possible."""

    def check(self, model: Model, on_progress: OnProgress | None = None) -> None:  # noqa: B027 -- optional: open() fails otherwise
        """Refuse what is certainly not a model, before the loaded one is freed for it. Must be quick, but for a download.

        Raises:
            InvalidInput, ModelNotFound, InvalidModel.
        """

    def example(self) -> Model:
        """A model to try the backend with."""
        return DEMO

    def check_adapters(  # noqa: B027 -- optional, as above
        self, model: Model, adapters: Sequence[tuple[AdapterFile, float]]
    ) -> None:
        """Refuse what is certainly no adapter of this model, before the model is loaded. Must be quick.

        Raises:
            InvalidInput, ModelNotFound, InvalidModel.
        """

    @abstractmethod
    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        """Load a model.

        Raises:
            BackendUnavailable: it cannot be used here after all; the next backend is tried.
            ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory, EngineError.
        """
