"""Session files of ``llama-bridge serve``: the conversation, and what the server calls the response of each turn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from llama_bridge.chat.message import Message, check_messages
from llama_bridge.checks import full_path
from llama_bridge.errors import InvalidInput, SessionCorrupt, SessionMismatch
from llama_bridge.request import Request
from llama_bridge.snapshot import SessionInfo, TurnMark
from llama_bridge.verification import FieldCheck, Verification

from ..client import Client, Refused
from ..events import as_object
from ..remote_runtime import Kept
from ..session_file import read_file, verified, whole, write_file

__all__ = ["Loaded", "Saved", "load", "read", "save", "verify"]

_FORMAT = "llama-bridge response"
_WHAT = "session file of the remote backend, which names a response of llama-bridge serve"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a session file says.

    Attributes:
        path: the file, absolute.
        n_bytes: its size.
        server: the address of the server that keeps the responses.
        model: its name there.
        n_tokens: of the conversation, as the server counted; 0 if it did not have it.
        kept: the conversation.
        created: when it was saved.
    """

    path: Path
    n_bytes: int
    server: str
    model: str
    n_tokens: int
    kept: Kept
    created: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A conversation from a file, and what is told of it."""

    kept: Kept
    info: SessionInfo


def save(path: str | os.PathLike[str], client: Client, model: str, kept: Kept) -> SessionInfo:
    """Write a file that names what the server keeps. What it has forgotten is in the file as messages alone.

    Raises:
        InvalidInput, SessionWriteError: a file that was there before is unchanged.
        EngineError, AccessDenied: the server does not answer, or refuses the key.
    """
    target = Path(full_path("path", path))
    n_tokens, _ = _held(client, kept)
    if not n_tokens:
        kept = replace(kept, response="")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    body = {
        "server": client.url,
        "model": model,
        "created": created,
        "n_tokens": n_tokens,
        "messages": [dict(message) for message in kept.messages],
        "text": kept.raw,
        "states": [_state(state) for state in _states(kept)],
    }
    n_bytes = write_file(target, _FORMAT, body)
    return SessionInfo(target, n_tokens, n_bytes, kept.messages, created, cached_tokens=n_tokens)


def _held(client: Client, kept: Kept) -> tuple[int, str]:
    """How many tokens the last response of a conversation has, and why the server does not have it, if so."""
    if not kept.response:
        return 0, "its last answer was not kept"
    try:
        usage = as_object(as_object(client.get(f"/v1/responses/{kept.response}")).get("usage"))
        return whole(usage.get("input_tokens")) + whole(usage.get("output_tokens")), ""
    except Refused as refused:
        if refused.refusal.status not in (403, 404):
            raise client.error_of(refused.refusal) from refused
        return 0, refused.refusal.message
    except ValueError:
        return 0, "the server does not tell its tokens"


def _states(kept: Kept) -> list[Kept]:
    """What the conversation was before each of its turns, oldest first, and is now."""
    states = [kept]
    while (before := states[-1].before) is not None:
        states.append(before)
    return states[::-1]


def _state(kept: Kept) -> dict[str, Any]:
    asked = kept.asked
    question = None
    if asked is not None and isinstance(asked.prompt, str) and not asked.told:
        names = ("prompt", "chat", "continues", "system")
        question = {name: getattr(asked, name) for name in names}
    return {
        "n_messages": len(kept.messages),
        "n_characters": len(kept.raw),
        "response": kept.response,
        "asked": question,
    }


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a session file and check it.

    Raises:
        InvalidInput, SessionNotFound, SessionCorrupt.
    """
    given, n_bytes, said = read_file(path, _FORMAT, _WHAT)
    try:
        messages = tuple(check_messages(said["messages"])) if said["messages"] else ()
        text = _text(said["text"])
        kept = _rebuilt(messages, text, said["states"])
        return Saved(
            given,
            n_bytes,
            _text(said["server"]),
            _text(said["model"]),
            whole(said["n_tokens"]),
            kept,
            _text(said["created"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise SessionCorrupt(given, str(error)) from error


def _rebuilt(messages: tuple[Message, ...], text: str, states: Sequence[Any]) -> Kept:
    """A conversation, which knows what it was before each of its turns.

    Raises:
        ValueError, TypeError, KeyError: that makes no conversation.
    """
    kept: Kept | None = None
    n_messages = n_characters = 0
    for state in states:
        turns: tuple[TurnMark, ...] = ()
        if kept is not None:
            turns = (*kept.turns, TurnMark(0, 0, n_messages))
        if whole(state["n_messages"]) < n_messages or whole(state["n_characters"]) < n_characters:
            raise ValueError("its turns are in no order")
        n_messages, n_characters = state["n_messages"], state["n_characters"]
        kept = Kept(
            messages=messages[:n_messages],
            raw=text[:n_characters],
            turns=turns,
            response=_response(state["response"]),
            before=kept,
            asked=_asked(state["asked"]),
        )
    if kept is None or (n_messages, n_characters) != (len(messages), len(text)) or not kept.begun:
        raise ValueError("its turns are not in its conversation")
    return kept


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text in it is none")
    return value


def _response(value: object) -> str:
    if not (text := _text(value)).isascii() or not all(c.isalnum() or c == "_" for c in text):
        raise ValueError("a response in it has an odd name")
    return text


def _asked(value: object) -> Request | None:
    if value is None:
        return None
    given = cast("Mapping[str, object]", value)
    system = given["system"]
    return Request(
        prompt=_text(given["prompt"]),
        chat=given["chat"] is True,
        continues=given["continues"] is True,
        system=None if system is None else _text(system),
    )


def load(saved: Saved, client: Client, model: str, *, replay: bool) -> Loaded:
    """The conversation of a file, if the server still has it.

    Raises:
        SessionMismatch: it is another server or model, or the response is not there any more. With ``replay`` the
            conversation is taken without its KV cache.
        EngineError: the server does not answer.
    """
    checks, why = _compared(saved, client, model)
    wrong = next((check for check in checks if not check.same), None)
    kept = saved.kept
    replayed: str | None = None
    if wrong is not None:
        reason = ""
        if wrong.field == "response":
            reason = f"{why}: pass replay=True to evaluate the conversation again"
        error = SessionMismatch(saved.path, wrong.field, wrong.saved, wrong.current, reason)
        if not replay:
            raise error
        replayed = error.reason
        kept = _without_responses(kept)
    info = SessionInfo(
        saved.path,
        saved.n_tokens,
        saved.n_bytes,
        kept.messages,
        saved.created,
        cached_tokens=0 if replayed else saved.n_tokens,
        replayed=replayed,
    )
    return Loaded(kept, info)


def _without_responses(kept: Kept) -> Kept:
    before: Kept | None = None
    for state in _states(kept):
        before = replace(state, response="", before=before)
    assert before is not None
    return before


def _compared(saved: Saved, client: Client, model: str) -> tuple[list[FieldCheck], str]:
    """Each field of the file beside that of the server, and why it does not have the response, if so."""
    pairs = [("server", saved.server, client.url), ("model", saved.model, model)]
    checks = [FieldCheck(name, before, now, before == now) for name, before, now in pairs]
    why = ""
    if saved.kept.response and all(check.same for check in checks):
        found, why = _held(client, saved.kept)
        id_ = saved.kept.response
        checks.append(FieldCheck("response", id_, id_ if found else None, bool(found)))
    return checks, why


def verify(saved: Saved, client: Client, model: str) -> Verification:
    """Compare a file with the server.

    Raises:
        EngineError: the server does not answer.
    """
    checks, _ = _compared(saved, client, model)
    return verified(saved.path, saved.n_bytes, saved.n_tokens, checks)
