"""Session files: the conversation, and the name of the file that the server keeps of its slot.

One JSON object: ``format``, ``version``, ``digest`` (SHA-256 of ``body`` as it stands), and ``body``, which is JSON text.
The KV cache itself never leaves the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
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
    SessionNotFound,
    SessionWriteError,
)
from llama_bridge.files.replacing import OPEN_SAFELY, replace_file
from llama_bridge.json_text import read_json
from llama_bridge.params import SamplingParams
from llama_bridge.snapshot import SessionInfo, TurnMark
from llama_bridge.verification import FieldCheck, Verification

from ..client import Client, Refused
from ..remote_runtime import Kept
from .facts import Facts

__all__ = ["Loaded", "Saved", "load", "read", "save", "verify"]

_FORMAT = "llama-bridge slot"
_VERSION = 1
_MOST = 64 << 20


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
    body = json.dumps(
        {
            "server": client.url,
            "slot_file": name,
            "slot_bytes": written,
            "identity": facts.identity,
            "build": facts.build,
            "created": created,
            "tokens": list(kept.tokens),
            "messages": [dict(message) for message in kept.messages],
            "turns": [[mark.start, mark.prompt_end, mark.n_messages] for mark in kept.turns],
            "sampling": _plain(kept.sampling or sampling),
        },
        ensure_ascii=False,
    )
    digest = hashlib.sha256(body.encode()).hexdigest()
    whole = json.dumps(
        {"format": _FORMAT, "version": _VERSION, "digest": digest, "body": body}, ensure_ascii=False
    ).encode()
    replace_file(target, lambda file: file.write(whole))
    return SessionInfo(
        target, len(kept.tokens), len(whole), kept.messages, created, cached_tokens=len(kept.tokens)
    )


def _plain(sampling: SamplingParams) -> dict[str, Any]:
    plain = {name: getattr(sampling, name) for name in sampling.__dataclass_fields__}
    bias = [
        [token, "-inf" if value == float("-inf") else value]
        for token, value in sampling.logit_bias.items()
    ]
    return {**plain, "logit_bias": bias}


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a session file and check it.

    Raises:
        InvalidInput, SessionNotFound, SessionCorrupt.
    """
    given = Path(full_path("path", path))
    data = _bytes(given)
    try:
        outer = read_json(data.decode())
        if outer["format"] != _FORMAT:
            raise ValueError("it has another format")
    except (ValueError, TypeError, KeyError) as error:
        raise SessionCorrupt(
            given,
            "it is no session file of the remote backend, which names a file on a llama-server",
        ) from error
    if outer.get("version") != _VERSION:
        raise SessionCorrupt(
            given, f"it has version {outer.get('version')!r}, but this one reads {_VERSION}"
        )
    try:
        body = outer["body"]
        if hashlib.sha256(body.encode()).hexdigest() != outer["digest"]:
            raise ValueError("its digest does not fit: it was altered")
        said = cast("dict[str, Any]", read_json(body))
        tokens = tuple(_whole(token) for token in said["tokens"])
        messages = tuple(check_messages(said["messages"])) if said["messages"] else ()
        turns = tuple(TurnMark(*(_whole(n) for n in mark)) for mark in said["turns"])
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
            len(data),
            str(said["server"]),
            str(said["slot_file"]),
            cast("Mapping[str, object]", identity),
            Kept(messages, "", tokens, turns),
            str(said["created"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidInput) as error:
        raise SessionCorrupt(given, str(error)) from error


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError("a number in it is none")
    return value


def _bytes(path: Path) -> bytes:
    try:
        number = os.open(path, os.O_RDONLY | OPEN_SAFELY & ~getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError as error:
        raise SessionNotFound(path, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise SessionCorrupt(path, f"it cannot be read: {error}") from error
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise SessionCorrupt(path, "it is no file")
    with os.fdopen(number, "rb") as file:
        if found.st_size > _MOST:
            raise SessionCorrupt(path, f"it has more than {_MOST >> 20} MiB")
        return file.read(_MOST)


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
    refusal = next(
        (
            f"{one.field} differs: saved with {one.saved!r}, now {one.current!r}"
            for one in checks
            if not one.same
        ),
        None,
    )
    return Verification(saved.path, saved.n_bytes, len(saved.kept.tokens), tuple(checks), refusal)
