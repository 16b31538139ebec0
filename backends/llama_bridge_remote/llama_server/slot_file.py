"""Session files of a llama-server: the conversation, and the name of the file that the server keeps of its slot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from llama_bridge.chat.message import check_messages
from llama_bridge.checks import full_path
from llama_bridge.errors import (
    BridgeError,
    InvalidInput,
    SessionCorrupt,
    SessionMismatch,
    SessionWriteError,
)
from llama_bridge.params import SamplingParams
from llama_bridge.snapshot import SessionInfo, TurnMark
from llama_bridge.verification import FieldCheck, Verification

from ..client import Client, Refused
from ..remote_runtime import Kept
from ..session_file import plain, read_file, verified, whole, write_file
from .facts import Facts

__all__ = ["Loaded", "Saved", "load", "read", "save", "verify"]

_FORMAT = "llama-bridge slot"
_WHAT = "session file of the remote backend, which names a file on a llama-server"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a session file says.

    Attributes:
        path: the file, absolute.
        n_bytes: its size.
        server: the address of the server that keeps the slot.
        slot_file: its name there.
        identity: of the model, see :attr:`Facts.identity`.
        kept: the conversation.
        created: when it was saved.
    """

    path: Path
    n_bytes: int
    server: str
    slot_file: str
    identity: Mapping[str, object]
    kept: Kept
    created: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A conversation from a file.

    Attributes:
        kept: the conversation.
        info: what is told of it.
        by_messages: whether its tokens are another model's, so that its messages must be rendered again.
    """

    kept: Kept
    info: SessionInfo
    by_messages: bool = False


def save(
    path: str | os.PathLike[str],
    client: Client,
    facts: Facts,
    slot: int,
    kept: Kept,
    sampling: SamplingParams,
) -> SessionInfo:
    """Have the server write its slot, then write the file that names it.

    Raises:
        InvalidInput, SessionWriteError: a file that was there before is unchanged.
    """
    target = Path(full_path("path", path))
    name = f"llama-bridge-{os.urandom(16).hex()}.bin"
    try:
        answer: Any = client.change(f"/slots/{slot}?action=save", {"filename": name})
        written = int(answer["n_written"])
    except Refused as refused:
        raise SessionWriteError(target, f"the server cannot save its slot: {refused}") from refused
    except (TypeError, KeyError, ValueError) as error:
        raise SessionWriteError(
            target, "the server does not say that it has saved its slot"
        ) from error
    except BridgeError as error:
        raise SessionWriteError(target, str(error)) from error
    created = datetime.now(UTC).isoformat(timespec="seconds")
    body = {
        "server": client.url,
        "slot_file": name,
        "slot_bytes": written,
        "identity": facts.identity,
        "build": facts.build,
        "created": created,
        "tokens": list(kept.tokens),
        "messages": [dict(message) for message in kept.messages],
        "turns": [[mark.start, mark.prompt_end, mark.n_messages] for mark in kept.turns],
        "sampling": plain(kept.sampling or sampling),
    }
    n_tokens = len(kept.tokens)
    n_bytes = write_file(target, _FORMAT, body)
    return SessionInfo(target, n_tokens, n_bytes, kept.messages, created, cached_tokens=n_tokens)


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a session file and check it.

    Raises:
        InvalidInput, SessionNotFound, SessionCorrupt.
    """
    given, n_bytes, said = read_file(path, _FORMAT, _WHAT)
    try:
        tokens = tuple(whole(token) for token in said["tokens"])
        messages = tuple(check_messages(said["messages"])) if said["messages"] else ()
        turns = tuple(TurnMark(*(whole(n) for n in mark)) for mark in said["turns"])
        if not tokens or any(mark.prompt_end > len(tokens) for mark in turns):
            raise ValueError("its turns are not in its conversation")
        identity = said["identity"]
        if (
            not isinstance(identity, dict)
            or os.sep in said["slot_file"]
            or "/" in said["slot_file"]
        ):
            raise ValueError("its fields are not what they should be")
        return Saved(
            given,
            n_bytes,
            str(said["server"]),
            str(said["slot_file"]),
            cast("Mapping[str, object]", identity),
            Kept(messages, "", tokens, turns),
            str(said["created"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise SessionCorrupt(given, str(error)) from error


def compare(saved: Saved, client: Client, facts: Facts) -> list[FieldCheck]:
    """Each field of the file beside that of the server."""
    current: dict[str, object] = {"server": client.url, **facts.identity}
    before: dict[str, object] = {"server": saved.server, **saved.identity}
    return [
        FieldCheck(name, before.get(name), now, before.get(name) == now)
        for name, now in current.items()
    ]


def load(saved: Saved, client: Client, facts: Facts, slot: int, *, replay: bool) -> Loaded:
    """Have the server read its file into a slot.

    Raises:
        SessionMismatch: it is another server or model, or the server's file is not there any more. With ``replay`` the
            conversation is taken without a KV cache.
    """
    why: SessionMismatch | None = None
    for check in compare(saved, client, facts):
        if not check.same:
            why = SessionMismatch(saved.path, check.field, check.saved, check.current)
            break
    restored = 0
    if why is None:
        try:
            answer: Any = client.change(
                f"/slots/{slot}?action=restore", {"filename": saved.slot_file}
            )
            restored = int(answer["n_restored"])
        except (Refused, BridgeError, TypeError, KeyError, ValueError) as error:
            _empty(client, slot)
            why = SessionMismatch(
                saved.path,
                "slot_file",
                saved.slot_file,
                None,
                f"the server cannot read it any more ({error}): pass replay=True to evaluate the conversation again",
            )
            why.__cause__ = error
        else:
            if not 0 < restored <= len(saved.kept.tokens):
                _empty(client, slot)
                tokens = len(saved.kept.tokens)
                why = SessionMismatch(
                    saved.path, "slot_file", tokens, restored, "it has other tokens"
                )
    foreign = why is not None and why.field not in ("server", "slot_file", "n_ctx")
    if why is not None and (not replay or (foreign and not saved.kept.messages)):
        raise why
    info = SessionInfo(
        saved.path,
        len(saved.kept.tokens),
        saved.n_bytes,
        saved.kept.messages,
        saved.created,
        cached_tokens=restored if why is None else 0,
        replayed=None if why is None else why.reason,
    )
    return Loaded(saved.kept, info, foreign)


def _empty(client: Client, slot: int) -> None:
    """A restore that fails leaves a slot that is not to be trusted."""
    try:
        client.change(f"/slots/{slot}?action=erase", {})
    except (Refused, BridgeError):
        return


def verify(saved: Saved, client: Client, facts: Facts) -> Verification:
    """Compare a file with the server."""
    checks = compare(saved, client, facts)
    return verified(saved.path, saved.n_bytes, len(saved.kept.tokens), checks)
