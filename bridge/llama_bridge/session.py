"""A conversation with a name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .capabilities import Capability
from .checks import check_callback, check_count, check_flag, check_name
from .conversation import Conversation
from .errors import BridgeError, PathLike
from .markup import rows, said
from .progress import OnProgress
from .runtime import Runtime
from .snapshot import SessionInfo, Snapshot

if TYPE_CHECKING:
    from .chat.message import Message
    from .verification import Verification

__all__ = ["Session"]


class Session(Conversation):
    """A conversation with a name. ``llama.session("work")`` makes one; ``llama.session()`` is the bridge's own.

    Making one costs nothing, and two with the same name are the same conversation. It gets the KV cache with its
    next call.
    """

    def __repr__(self) -> str:
        return f"Session({self._name!r})"

    def _repr_html_(self) -> str:
        title = self._name or "the bridge's own conversation"
        try:
            return said(title, self._past().messages)
        except BridgeError as error:  # closed, say
            return rows(title, {"not usable": str(error)})

    @property
    def name(self) -> str:
        """Its name, which is empty for the bridge's own conversation."""
        return self._name

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens of the conversation; empty if the backend keeps none."""
        return self._past().tokens

    @property
    def messages(self) -> list[Message]:
        """What was said, if the prompts were chat turns."""
        return list(self._past().messages)

    @property
    def n_turns(self) -> int:
        """How many turns can be undone."""
        return len(self._past().turns)

    @property
    def active(self) -> bool:
        """Whether there is anything to continue or save."""
        past = self._past()
        return bool(past.tokens or past.messages or past.turns)

    def _past(self) -> Snapshot:
        past = self._shared.alive().past(self._name)
        carried = self._shared.carried.get(self._name, ())
        return replace(past, messages=carried) if carried else past

    def reset(self) -> None:
        """Forget the conversation and empty the KV cache. The model stays loaded.

        The next prompt is evaluated from its first token.
        """
        self._shared.do(Capability(0), lambda runtime: runtime.reset(self._name))
        self._shared.forget(self._name)

    def rewind(self, turns: int = 1) -> None:
        """Undo the last turns, both questions and answers.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: there are fewer turns than that.
        """
        check_count("turns", turns, least=1)
        self._shared.do(Capability.SESSION_TOOLS, lambda runtime: runtime.rewind(self._name, turns))

    def fork(self, name: str | None = None) -> Session:
        """Start a second conversation with the same past, which is not evaluated again.

        Without a name, one is found.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: there is already a session with that name.
        """
        if name is not None:
            check_name(name)
        branch = self._shared.do(
            Capability.SESSION_TOOLS, lambda runtime: runtime.fork(self._name, name)
        )
        return Session(self._shared, branch)

    def save(self, path: PathLike) -> SessionInfo:
        """Write the conversation to a file. If that fails, a file that was there before is unchanged.

        Raises:
            UnsupportedCapability, NoSession, SessionWriteError, ClosedError.
        """
        return self._shared.do(
            Capability.SESSION_PERSISTENCE,
            lambda runtime: runtime.save(self._name, path, self._shared.sampling),
        )

    def load(
        self,
        path: PathLike,
        *,
        replay: bool = False,
        trust_unverified: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SessionInfo:
        """Replace this conversation by a saved one. If the file is refused, this conversation is unchanged.

        Args:
            path: the file.
            replay: if the file is whole but its KV cache cannot be used here, evaluate the conversation again:
                its tokens, or with another vocabulary its messages. ``replayed`` then says why.
            trust_unverified: also accept a bare llama.cpp sequence file. It does not say which model it is from;
                with the wrong model the answers are nonsense. Of any file, other prompts may then use the KV cache as
                if it had been evaluated here: only for files that you have written yourself.
            on_progress: called with the progress of the evaluation; None takes the bridge's.

        Raises:
            UnsupportedCapability, SessionNotFound, SessionCorrupt, SessionMismatch, ClosedError.
            ContextOverflow: the conversation to evaluate again does not fit the context.
            SessionCancelled, EngineError: while the conversation was evaluated again.
        """
        progress = check_callback("on_progress", on_progress) or self._shared.on_progress
        check_flag("replay", replay)
        check_flag("trust_unverified", trust_unverified)
        shared = self._shared

        def load(runtime: Runtime) -> SessionInfo:
            info = runtime.load(
                self._name,
                path,
                replay=replay,
                trust_unverified=trust_unverified,
                on_progress=progress,
            )
            shared.asked(runtime, self._name, raw=not info.messages)
            return info

        return shared.do(Capability.SESSION_PERSISTENCE, load)

    def verify(
        self, path: PathLike, *, deep: bool = False, on_progress: OnProgress | None = None
    ) -> Verification:
        """Compare a session file with this model and context, field by field, and try its KV cache.

        The live conversation is unchanged.

        Args:
            path: the file.
            deep: also evaluate the whole conversation again and compare the logits. This finds a KV cache that
                loads and is wrong.
            on_progress: called with the progress of the evaluation; None takes the bridge's.

        Raises:
            UnsupportedCapability, SessionNotFound, SessionCorrupt, ClosedError.
            ContextOverflow: ``deep`` needs room for one more token.
            SessionCancelled, EngineError: while the conversation was evaluated again.
        """
        progress = check_callback("on_progress", on_progress) or self._shared.on_progress
        check_flag("deep", deep)
        return self._shared.do(
            Capability.SESSION_PERSISTENCE,
            lambda runtime: runtime.verify(path, deep=deep, on_progress=progress),
        )

    def delete(self) -> None:
        """Forget the conversation and its name."""
        self._shared.do(Capability(0), lambda runtime: runtime.delete(self._name))
        self._shared.forget(self._name)
