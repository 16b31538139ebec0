"""The calls of a conversation: the same on the bridge and on each named session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .capabilities import Capability
from .chat.template import Message
from .checks import Call
from .engine import Engine
from .errors import PathLike
from .generation import Generation, TextStream
from .local.local_runtime import Core
from .params import SamplingParams
from .snapshot import SessionInfo, Snapshot

if TYPE_CHECKING:
    from .local.verify import Verification

__all__ = ["Conversation", "NamedSession"]


class Conversation:
    """What can be said and done in one conversation."""

    def __init__(self, core: Core, name: str) -> None:
        self._core = core
        self._name = name

    # generating

    def generate(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> Generation:
        """Answer a prompt from nothing; its KV cache becomes the session's.

        With ``Capability.PREFIX_CACHE``, what the KV cache holds of the prompt's beginning is not evaluated again.

        Args:
            prompt: a user turn where the model has a chat template, else raw text.
            params: how tokens are drawn; None takes :attr:`sampling`.
            stop: strings that end the answer and are not part of it.
            chat: False for raw text, True to insist on the chat template.
            json_schema: needs ``Capability.JSON_SCHEMA``.

        Raises:
            InvalidInput, ContextOverflow, UnsupportedCapability, TemplateError, EngineError, ClosedError.
        """
        return self.generate_stream(
            prompt, params=params, stop=stop, chat=chat, json_schema=json_schema
        ).result

    def generate_stream(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> TextStream:
        """As :meth:`generate`, text arriving while it is generated; ``.result`` at the end."""
        return self._core.start(
            self._name, Call(prompt, params, stop, chat, json_schema, continues=False)
        )

    def generate_continue(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> Generation:
        """Answer a prompt as the next turn of the session, evaluating only what is new.

        Where there is no session, or the backend lacks ``KV_CONTINUATION``, it runs as :meth:`generate`:
        ``mode`` is then ``Mode.FRESH`` and ``fallback`` says why. Arguments and errors as there.
        """
        return self.generate_continue_stream(
            prompt, params=params, stop=stop, chat=chat, json_schema=json_schema
        ).result

    def generate_continue_stream(
        self,
        prompt: str,
        *,
        params: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: Mapping[str, object] | None = None,
    ) -> TextStream:
        """As :meth:`generate_continue`, text arriving while it is generated."""
        return self._core.start(
            self._name, Call(prompt, params, stop, chat, json_schema, continues=True)
        )

    def regenerate(
        self, *, params: SamplingParams | None = None, stop: str | Sequence[str] = ()
    ) -> Generation:
        """Answer the last prompt anew, in place of its answer; only the prompt's last token is evaluated.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: nothing was asked yet.
        """
        return self.regenerate_stream(params=params, stop=stop).result

    def regenerate_stream(
        self, *, params: SamplingParams | None = None, stop: str | Sequence[str] = ()
    ) -> TextStream:
        """As :meth:`regenerate`, text arriving while it is generated."""
        return self._core.start(self._name, Call(None, params, stop))

    # the session

    def session_reset(self) -> None:
        """Forget the conversation: the KV cache is emptied, the model stays loaded.

        The next prompt is evaluated from its first token.
        """
        with self._core.exclusive():
            self._core.alive()[2].take(self._name).reset()

    def session_rewind(self, turns: int = 1) -> None:
        """Take back the last turns, questions and answers.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: there are not so many turns.
        """
        self._core.requires(Capability.SESSION_TOOLS)
        with self._core.exclusive():
            self._core.alive()[2].take(self._name).rewind(turns)

    def session_fork(self, name: str | None = None) -> NamedSession:
        """A second conversation with the same past, which is not evaluated again; None finds a name.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: there is a session of that name.
        """
        self._core.requires(Capability.SESSION_TOOLS)
        with self._core.exclusive():
            sessions = self._core.alive()[2]
            branch = sessions.new_name(self._name) if name is None else name
            sessions.fork(self._name, branch)
        return NamedSession(self._core, branch)

    def session_save(self, path: PathLike) -> SessionInfo:
        """Write the session to a file, whole or not at all; a file that was there survives any failure.

        Raises:
            UnsupportedCapability, NoSession, SessionWriteError, ClosedError.
        """
        self._core.requires(Capability.SESSION_PERSISTENCE)
        with self._core.exclusive():
            from .files.manifest import save_session  # json and more: not before it is needed

            _, model, sessions = self._core.alive()
            return save_session(sessions.take(self._name), model, self._core.sampling, path)

    def session_load(
        self, path: PathLike, *, replay: bool = False, trust_unverified: bool = False
    ) -> SessionInfo:
        """Make a saved session this one; a refused file leaves the live session as it is.

        Args:
            path: of the file.
            replay: where the file is whole but its KV cache cannot be used here, evaluate the conversation
                again: its tokens, or with another vocabulary its messages. ``replayed`` then says why.
            trust_unverified: take a bare llama.cpp sequence file too. Nothing in it tells which model it is
                of: a wrong one talks nonsense.

        Raises:
            UnsupportedCapability, SessionNotFound, SessionCorrupt, SessionMismatch, ClosedError.
            ContextOverflow: the conversation to evaluate again does not fit the context.
            SessionCancelled, EngineError: while it was evaluated again.
        """
        self._core.requires(Capability.SESSION_PERSISTENCE)
        with self._core.exclusive():
            from .local.restore import carry_out, plan_load  # as above

            _, model, sessions = self._core.alive()
            # Planned over whichever conversation has the cache: a refused file does not even switch.
            plan = plan_load(sessions.session, model, path, replay, trust_unverified)
            return carry_out(sessions.take(self._name, or_empty=True), plan)

    def session_verify(self, path: PathLike, *, deep: bool = False) -> Verification:
        """Compare a session file with this model and context, field by field, and try its KV cache.

        The live session stays as it is.

        Args:
            path: of the file.
            deep: evaluate the whole conversation again too, and compare what follows: finds a KV cache that
                loads and is wrong.

        Raises:
            UnsupportedCapability, SessionNotFound, SessionCorrupt, ClosedError.
            ContextOverflow: ``deep`` needs room for one token more.
            SessionCancelled, EngineError: while it was evaluated again.
        """
        self._core.requires(Capability.SESSION_PERSISTENCE)
        with self._core.exclusive():
            from .local.verify import verify_file  # rarely used

            _, model, sessions = self._core.alive()
            return verify_file(sessions.session, model, path, deep)


class NamedSession(Conversation):
    """A handle: making it costs nothing, and two of one name are the same conversation.

    The conversation takes the KV cache with its next call. ``llama.session`` is the bridge's own; call it with
    a name for another: ``llama.session("work")``.
    """

    def __call__(self, name: str) -> NamedSession:
        """The session of this name; an empty one where there is none yet.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
        """
        self._core.requires(Capability.SESSION_TOOLS)
        return NamedSession(self._core, name)

    def __repr__(self) -> str:
        return f"NamedSession({self._name!r})"

    @property
    def name(self) -> str:
        """Its name; empty for the bridge's own."""
        return self._name

    @property
    def engine(self) -> Engine:
        """What runs it, token by token; to look at, since whatever has the KV cache is in it."""
        return self._core.alive()[0]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ledger."""
        return self._glance().tokens

    @property
    def messages(self) -> list[Message]:
        """What was said, where the prompts were chat turns."""
        return list(self._glance().messages)

    @property
    def n_turns(self) -> int:
        """Turns that can be taken back."""
        return len(self._glance().turns)

    @property
    def active(self) -> bool:
        """Whether there is anything to continue or save."""
        return bool(self.tokens)

    def _glance(self) -> Snapshot:
        return self._core.alive()[2].glance(self._name)

    def delete(self) -> None:
        """Forget the conversation and its name."""
        with self._core.exclusive():
            self._core.alive()[2].delete(self._name)
