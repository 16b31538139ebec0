"""Session files of a llama-server: the conversation, and the name of the file that the server keeps of its slot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
_TRIES = 3
_WHAT = "session file of the remote backend, which names a file on a llama-server"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a session file says.

    Attributes:
        path: the file, absolute.
        n_bytes: its size.
        server: the address of the server that keeps the slot.
        slot_file: its name there.
        size: tokens and bytes in it; None for either where the file does not tell.
        identity: of the model, see :attr:`Facts.identity`.
        kept: the conversation.
        created: when it was saved.
    """

    path: Path
    n_bytes: int
    server: str
    slot_file: str
    size: tuple[int | None, int | None]
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
    held: Callable[[], int],
    kept: Kept,
    sampling: SamplingParams,
) -> SessionInfo:
    """Have the server write its slot, then write the file that names it.

    Args:
        path, client, facts, kept, sampling: of the conversation.
        held: makes a slot hold it, and tells which.

    Raises:
        InvalidInput, SessionWriteError: a file that was there before is unchanged.
    """
    target = Path(full_path("path", path))
    name = f"llama-bridge-{os.urandom(16).hex()}.bin"
    saved = written = 0
    for _ in range(_TRIES):
        saved, written = _saved(target, client, held(), name)
        if saved == len(kept.tokens):
            break
    else:
        raise SessionWriteError(
            target,
            f"the server saves {saved} tokens instead of {len(kept.tokens)}: other programs use its slots. Try again later, or "
            "start it with more slots",
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    body = {
        "server": client.url,
        "slot_file": name,
        "slot_tokens": saved,
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


def _saved(target: Path, client: Client, slot: int, name: str) -> tuple[int, int]:
    """Have the server write a slot to a file of its own; returns the tokens and the bytes in it."""
    try:
        answer: Any = client.change(f"/slots/{slot}?action=save", {"filename": name})
        return whole(answer["n_saved"]), int(answer["n_written"])
    except Refused as refused:
        raise SessionWriteError(target, f"the server cannot save its slot: {refused}") from refused
    except (TypeError, KeyError, ValueError) as error:
        raise SessionWriteError(
            target, "the server does not say that it has saved its slot"
        ) from error
    except BridgeError as error:
        raise SessionWriteError(target, str(error)) from error


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
            (_known(said, "slot_tokens"), _known(said, "slot_bytes")),
            cast("Mapping[str, object]", identity),
            Kept(messages, "", tokens, turns),
            str(said["created"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise SessionCorrupt(given, str(error)) from error


def _known(said: Mapping[str, object], name: str) -> int | None:
    value = said.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"its {name} is no number")


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
            restored = whole(answer["n_restored"])
            n_read = _known(answer, "n_read")
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
            tokens, size = saved.size
            other = not 0 < restored <= len(saved.kept.tokens)
            other = other or restored != (restored if tokens is None else tokens)
            if other or (size is not None and n_read is not None and n_read != size):
                _empty(client, slot)
                why = SessionMismatch(
                    saved.path,
                    "slot_file",
                    f"{tokens or len(saved.kept.tokens)} tokens, {size} bytes",
                    f"{restored} tokens, {n_read} bytes",
                    "another file is in its place: pass replay=True to evaluate the conversation again",
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
