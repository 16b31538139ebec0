"""Contract 1: a runtime answers requests. What a backend gives the bridge, and all that the bridge knows of it.

A runtime over an engine of tokens is written already (:mod:`llama_bridge.local`): a backend with such an engine
subclasses :class:`~llama_bridge.local.engine_backend.EngineBackend`. One that answers in text, over a server say,
subclasses :class:`Backend` and :class:`Runtime`.
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
from .files.folder import SessionFolder
from .models.source import ModelFile, ModelSource
from .params import ModelParams, SamplingParams
from .progress import OnProgress
from .prompt import Prompt
from .request import Request
from .snapshot import SessionInfo, Snapshot
from .stream import PendingAnswer

if TYPE_CHECKING:
    from .verification import Verification

__all__ = ["Availability", "Backend", "Model", "Runtime", "SessionStorage"]

Model = str | os.PathLike[str] | ModelSource
"""What names a model: a path, ``"demo"``, a source; what else a backend understands."""


class Runtime(NotCopied, ABC):
    """A loaded model that answers requests.

    Calls come from any thread. Only :meth:`answer` and the operations on conversations may wait, and only for what
    computes just then: never for a reader. All raise ClosedError after :meth:`close`.

    What goes with a flag is called only where :attr:`capabilities` has it; what a runtime cannot do is left out.

    Attributes:
        backend: name of the backend that made it.
        capabilities: what this model can do here.
        model: the model's file, or None where there is none on this side.
    """

    backend: str
    capabilities: Capability
    model: ModelFile | None = None

    @abstractmethod
    def answer(self, request: Request) -> PendingAnswer:
        """Begin to answer. What can be told beforehand is raised here, with nothing begun.

        Raises:
            InvalidInput, ContextOverflow, TemplateError, EngineError, ClosedError.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Have what runs end soon, as ``"cancelled"``. From any thread, takes no lock; idle, it does nothing."""

    def retire(self) -> None:
        """Take no more requests: from now on they raise ClosedError. Answers on their way are computed to their end.

        Called before another model takes over.
        """

    @abstractmethod
    def close(self) -> None:
        """End what runs, free everything. Twice is silent."""

    # with Capability.TOKENS

    @property
    def info(self) -> EngineInfo:
        """Numbers of the model and its context."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    def tokenize(self, text: str | Prompt, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of a text; of a prompt, those that :meth:`answer` evaluates."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, which is in the vocabulary; of a control token none."""
        raise UnsupportedCapability(Capability.TOKENS, self.backend)

    # with Capability.CHAT_TEMPLATE

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """The messages as the model's own template writes them; what they say never becomes a control token."""
        raise UnsupportedCapability(Capability.CHAT_TEMPLATE, self.backend)

    # conversations: one that answers each prompt by itself has nothing to tell, and nothing to forget

    def past(self, session: str) -> Snapshot:
        """What a conversation holds, without its KV cache. Waits for no answer."""
        return Snapshot()

    def reset(self, session: str) -> None:
        """Forget what was said; the name stays."""

    # with Capability.SESSION_TOOLS

    def names(self) -> list[str]:
        """Of the conversations beside the bridge's own, the least recently used first."""
        return []

    def rewind(self, session: str, turns: int) -> None:
        """Take back the last turns."""
        raise UnsupportedCapability(Capability.SESSION_TOOLS, self.backend)

    def fork(self, session: str, name: str | None) -> str:
        """Begin a conversation with the past of another; gives its name."""
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
        """Make the conversation in a file this one; refused, nothing has changed."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)

    def verify(
        self, path: str | os.PathLike[str], *, deep: bool, on_progress: OnProgress | None
    ) -> Verification:
        """Compare a file with this model and context."""
        raise UnsupportedCapability(Capability.SESSION_PERSISTENCE, self.backend)


@dataclass(frozen=True, slots=True)
class SessionStorage:
    """Where conversations go that do not have the KV cache just then.

    Attributes:
        memory: bytes that copies of KV caches may take.
        folder: keeps named conversations, or None. It is the bridge's, for one model after the other.
    """

    memory: int = 256 << 20
    folder: SessionFolder | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can be used here.

    Attributes:
        name: of the backend.
        ok: whether it can.
        reason: why not, or a note.
        hint: the command or step that would make it available.
        version: of its engine, where it can be told cheaply.
    """

    name: str
    ok: bool
    reason: str = ""
    hint: str = ""
    version: str = ""


class Backend(ABC):
    """A way to run models. Published through the entry-point group ``llama_bridge.backends``.

    Attributes:
        name: what users say.
        rank: the highest available one is chosen.
        capabilities: what it can do at best; a loaded model may do less.
    """

    name: str
    rank: int
    capabilities: Capability

    @abstractmethod
    def probe(self) -> Availability:
        """Whether it can be used here. Quick, never raises, imports as little as it can."""

    def check(self, model: Model) -> None:  # noqa: B027 -- who cannot tell lets open() fail
        """Refuse what is certainly no model, before the loaded one is given up for it. Quick.

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
            BackendUnavailable: it cannot be used here after all; the next best one is tried.
            ModelNotFound, InvalidModel, ModelLoadError, OutOfMemory, EngineError.
        """
