"""Every error the library raises on purpose.

.. code-block:: text

    BridgeError
    ├── InvalidInput (ValueError)             an argument cannot be used; names it and says what to do
    │   ├── ContextOverflow                   prompt and history, or a text to embed, do not fit n_ctx
    │   └── InvalidSchema                     a JSON schema cannot be enforced; names place and keyword
    ├── BackendUnavailable                    the backend cannot be used here; says how to get it
    ├── UnsupportedCapability                 this backend cannot do that; says which ones can
    ├── ModelError
    │   ├── ModelNotFound (FileNotFoundError) no file at that path, or nothing of that name; lists what there is
    │   ├── DownloadError                     a model could not be fetched; what has arrived is kept
    │   │   ├── AccessDenied                  the server wants a token, or its owner's terms accepted
    │   │   ├── RateLimited                   too many requests; says when to try again
    │   │   ├── NotEnoughSpace                it does not fit on the disk
    │   │   └── DigestMismatch                these are not the bytes that were promised; names both digests
    │   ├── InvalidModel                      not a GGUF file, truncated, or inconsistent
    │   └── ModelLoadError                    the engine refused a well-formed file
    │       └── OutOfMemory                   it does not fit into the memory it may use
    ├── TemplateError                         the model's chat template failed
    ├── Cancelled                             cancelled where a part of a result is of no use
    ├── SessionError
    │   ├── NoSession                         nothing to save yet
    │   ├── SessionNotFound (FileNotFoundError)
    │   ├── SessionCorrupt                    not a session file, truncated or altered
    │   ├── SessionMismatch                   saved with another model or settings; names the field
    │   ├── SessionCancelled                  cancelled while a conversation was evaluated again
    │   ├── SessionWriteError (OSError)       the file could not be written; the old one is intact
    │   └── SessionsLocked                    another bridge uses that folder
    ├── InvalidAnswer                         the answer fits the schema, but the caller's class refuses it
    ├── InvalidToolCall                       the model called a tool with arguments that its schema refuses
    ├── Busy                                  too many calls wait already; says how many
    ├── NoModel                               no model is loaded yet
    ├── ClosedError                           used after close()
    └── EngineError                           the engine failed while it worked
        ├── ServerGone                        nobody answers at the server's address; nothing was generated
        └── AnswerCutOff                      a server's answer broke off; has the text so far

Errors of an engine (ctypes, wasmtime) never leak: each backend converts them in one place and keeps the
original as ``__cause__``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .capabilities import Capability

__all__ = [
    "AccessDenied",
    "AnswerCutOff",
    "BackendUnavailable",
    "BridgeError",
    "Busy",
    "Cancelled",
    "ClosedError",
    "ContextOverflow",
    "DigestMismatch",
    "DownloadError",
    "EngineError",
    "FallbackWarning",
    "InvalidAnswer",
    "InvalidInput",
    "InvalidModel",
    "InvalidSchema",
    "InvalidToolCall",
    "ModelError",
    "ModelLoadError",
    "ModelNotFound",
    "NoModel",
    "NoSession",
    "NotEnoughSpace",
    "OutOfMemory",
    "RateLimited",
    "ServerGone",
    "SessionCancelled",
    "SessionCorrupt",
    "SessionError",
    "SessionMismatch",
    "SessionNotFound",
    "SessionWriteError",
    "SessionsLocked",
    "TemplateError",
    "UnsupportedCapability",
]

PathLike = str | os.PathLike[str]


class FallbackWarning(UserWarning):
    """A backend answered, but did less than was asked. Issued once per bridge."""


class BridgeError(Exception):
    """Base of everything this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception would call __init__ with the message alone. Errors must survive pickling unchanged.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[BridgeError], args: tuple[Any, ...], state: dict[str, Any]) -> BridgeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInput(BridgeError, ValueError):
    """An argument cannot be used. The message names it and says what to do."""


class ContextOverflow(InvalidInput):
    """The tokens do not fit the context. Raised before anything is evaluated.

    Attributes:
        needed: tokens the context would have to hold, including one generated token.
        n_ctx: tokens it can hold.
        at_least: whether ``needed`` is a lower bound. A text far too long is refused before its tokens are counted.
        text: which of the texts to embed it is, such as ``"text[3]"``; empty for a prompt.
    """

    def __init__(self, needed: int, n_ctx: int, at_least: bool = False, text: str = "") -> None:
        counted = f"{'at least ' * at_least}{needed} tokens"
        if text:
            message = (
                f"{text} has {counted}, but the model reads at most {n_ctx} at once: shorten it, "
                "or pass truncate=True"
            )
        else:
            message = (
                f"{counted} do not fit the context of {n_ctx}: shorten the prompt, call session_reset(), or load "
                f"the model with {'more than ' * at_least}n_ctx={needed}{' or more' * (not at_least)}"
            )
        super().__init__(message)
        self.needed = needed
        self.n_ctx = n_ctx
        self.at_least = at_least
        self.text = text


class InvalidSchema(InvalidInput):
    """A JSON schema is no schema, or asks for something that no grammar can enforce. Raised before any work.

    Attributes:
        pointer: JSON pointer to the schema that is meant, as a URI fragment: ``#/properties/age``.
        keyword: the keyword in it, or "" for the whole of it.
        reason: what is wrong with it.
    """

    def __init__(self, pointer: str, keyword: str, reason: str) -> None:
        where = f"{pointer}, {keyword!r}" if keyword else pointer
        super().__init__(f"json_schema at {where}: {reason}")
        self.pointer = pointer
        self.keyword = keyword
        self.reason = reason


class BackendUnavailable(BridgeError):
    """The requested backend cannot be used here.

    Attributes:
        backend: its name.
        reason: why, as text.
        hint: a command or step that fixes it, possibly empty.
    """

    def __init__(self, backend: str, reason: str, hint: str = "") -> None:
        super().__init__(
            f"backend {backend!r} is not available: {reason}" + (f"\n{hint}" * bool(hint))
        )
        self.backend = backend
        self.reason = reason
        self.hint = hint


class UnsupportedCapability(BridgeError):
    """This model on this backend cannot do what was asked. Nothing was started.

    Attributes:
        capability: the missing flag.
        backend: the backend in use.
        available_in: backends that support it and can be used here, possibly none.
        why: the reason, possibly empty.
    """

    def __init__(
        self, capability: Capability, backend: str, available_in: Sequence[str] = (), why: str = ""
    ) -> None:
        name = (capability.name or str(capability)).lower()
        where = f"; available in: {', '.join(available_in)}" if available_in else ""
        because = f" ({why})" if why else ""
        super().__init__(f"{name} is not supported by the {backend} backend{because}{where}")
        self.capability = capability
        self.backend = backend
        self.available_in = tuple(available_in)
        self.why = why


class ModelError(BridgeError):
    """Something is wrong with the model file.

    Attributes:
        path: the file, as the caller wrote it.
    """

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason


class ModelNotFound(ModelError, FileNotFoundError):
    """No model file at that path, or nothing that a name means; the message lists what there is.

    Attributes:
        there: what there is instead: names of files, or of models on this disk; possibly empty.
    """

    def __init__(self, path: PathLike, reason: str, there: Sequence[str] = ()) -> None:
        super().__init__(path, reason)
        self.there = tuple(there)


class DownloadError(ModelError):
    """A model could not be fetched: no answer, a refusal, a connection that broke. Nothing half-written is in the way.

    Attributes:
        received: bytes that are kept, so that the next try continues after them.
        total: bytes of the whole file, or None if nobody said.
        status: of the server's answer, or None without one.
    """

    def __init__(
        self,
        path: PathLike,
        reason: str,
        *,
        received: int = 0,
        total: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(path, reason)
        self.received = received
        self.total = total
        self.status = status


class AccessDenied(DownloadError):
    """The server wants a token, another one, or the terms of the model accepted. The message says which and where."""


class RateLimited(DownloadError):
    """The server has had too many requests from here.

    Attributes:
        retry_after: seconds to wait before the next try, or None if the server did not say.
    """

    def __init__(self, path: PathLike, retry_after: float | None = None) -> None:
        when = "some minutes" if retry_after is None else f"{retry_after:,.0f} s"
        super().__init__(
            path, f"the server has had too many requests: try again in {when}", status=429
        )
        self.retry_after = retry_after


class NotEnoughSpace(DownloadError):
    """The file does not fit on the disk.

    Attributes:
        needed: bytes that still have to be written.
        free: bytes that can be written.
    """

    def __init__(self, path: PathLike, folder: PathLike, needed: int, free: int) -> None:
        super().__init__(
            path,
            f"it takes {needed / 1e9:,.2f} GB more, but {os.fspath(folder)} has {free / 1e9:,.2f} GB left: "
            "make room, or set HF_HUB_CACHE to a folder on another disk",
        )
        self.needed = needed
        self.free = free


class DigestMismatch(DownloadError):
    """The bytes are not those that were promised. They are not used.

    Attributes:
        expected: the promised sha256, in hexadecimal.
        found: the sha256 of what is there.
    """

    def __init__(self, path: PathLike, expected: str, found: str, way_out: str) -> None:
        super().__init__(path, f"its sha256 should be {expected}, but is {found}: {way_out}")
        self.expected = expected
        self.found = found


class InvalidModel(ModelError):
    """The file is not a usable GGUF file: it has another format, or is empty, truncated or inconsistent.

    Attributes:
        found: what the file is instead, if known: ``"session"``, ``"safetensors"``, ``"text"``, ...; otherwise empty.
    """

    def __init__(self, path: PathLike, reason: str, found: str = "") -> None:
        super().__init__(path, reason)
        self.found = found


class ModelLoadError(ModelError):
    """The engine refused a file that looked well-formed. The reason quotes the engine."""


class OutOfMemory(ModelLoadError):
    """Weights and KV cache do not fit into the memory that the engine may use.

    Attributes:
        needed: bytes that they take, or None if that is not known.
        limit: bytes that there are, or None.
        n_ctx: the longest context that would fit with these settings; 0 if none does, None if that is not known.
    """

    def __init__(
        self,
        path: PathLike,
        reason: str,
        *,
        needed: int | None = None,
        limit: int | None = None,
        n_ctx: int | None = None,
    ) -> None:
        super().__init__(path, reason)
        self.needed = needed
        self.limit = limit
        self.n_ctx = n_ctx


class TemplateError(BridgeError):
    """The model's chat template cannot be parsed, or it refused these messages."""


class Cancelled(BridgeError):
    """``cancel()`` was called before all texts were embedded or ranked. There is no part of a result."""


class SessionError(BridgeError):
    """Something is wrong with a session or its file."""


class NoSession(SessionError):
    """There is no conversation to save: generate something first."""


class _SessionFileError(SessionError):
    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason


class SessionNotFound(_SessionFileError, FileNotFoundError):
    """No session file at that path."""


class SessionCorrupt(_SessionFileError):
    """Not a session file, or a truncated or altered one. The live session is unchanged.

    Attributes:
        found: what the file is instead, if known: ``"gguf"`` for a model; otherwise empty.
    """

    def __init__(self, path: PathLike, reason: str, found: str = "") -> None:
        super().__init__(path, reason)
        self.found = found


class SessionWriteError(_SessionFileError, OSError):
    """The session could not be written. An existing file is intact."""


class SessionMismatch(_SessionFileError):
    """The file is intact, but was saved with another model or settings. The live session is unchanged.

    Attributes:
        field: the manifest field that differs.
        saved: its value in the file.
        current: its value now.
        why: what that means or what to do, if there is more to say.
    """

    def __init__(
        self, path: PathLike, field: str, saved: object, current: object, why: str = ""
    ) -> None:
        reason = f"{field} differs: saved with {_short(saved)}, now {_short(current)}"
        super().__init__(path, reason + f"; {why}" * bool(why))
        self.field = field
        self.saved = saved
        self.current = current
        self.why = why


def _short(value: object) -> str:
    """A value cut to a readable length: a file may contain anything."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


class SessionCancelled(SessionError):
    """``cancel()`` was called while a saved conversation was evaluated again. The session is unchanged."""


class SessionsLocked(_SessionFileError):
    """Another bridge, in this process or another, uses that folder."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(
            path, "another LlamaBridge uses this folder: close it, or give another folder"
        )


class InvalidAnswer(BridgeError):
    """The answer follows the JSON schema, but the class that was given refuses it, by a validator of its own.

    The answer is part of the conversation.

    Attributes:
        text: the answer.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"the answer fits the schema, but your class refuses it: {reason}")
        self.text = text


class InvalidToolCall(BridgeError):
    """The model called a tool with arguments that the tool's schema refuses. Nothing is passed on.

    Attributes:
        name: the tool.
        arguments: what it was called with, as JSON text.
        text: what the model wrote.
    """

    def __init__(self, name: str, arguments: str, text: str, why: str) -> None:
        super().__init__(f"the model called {name!r} with {_short(arguments)}: {why}")
        self.name = name
        self.arguments = arguments
        self.text = text


class Busy(BridgeError):
    """Too many calls wait for a place already. Nothing was evaluated: try again later.

    Attributes:
        waiting: how many calls wait.
    """

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"the model is busy: {waiting} calls wait already. Try again later, or load it with a larger n_parallel "
            "or max_waiting"
        )
        self.waiting = waiting


class NoModel(BridgeError):
    """No model is loaded: pass one to LlamaBridge() or load_model()."""


class ClosedError(BridgeError):
    """Used after close()."""


class EngineError(BridgeError):
    """The engine failed while it worked.

    The session then matches its token ledger. If the engine is lost, the message says to load the model
    again.
    """


class ServerGone(EngineError):
    """Nobody answers at a server's address any more. Nothing was generated, and the conversation is as it was."""


class AnswerCutOff(EngineError):
    """The answer of a server broke off. It is not part of the conversation.

    Attributes:
        text: what had arrived of it.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"the answer broke off after {len(text)} characters: {reason}")
        self.text = text
