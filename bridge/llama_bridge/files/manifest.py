"""Saving a session to a file and taking it back: what is recorded, what is compared."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .._version import __version__
from ..chat.template import check_messages
from ..engine import Engine
from ..errors import (
    InvalidInput,
    NoSession,
    PathLike,
    SessionCorrupt,
    SessionMismatch,
)
from ..local.active import Session
from ..models.source import ModelFile
from ..params import SamplingParams
from ..snapshot import SessionInfo, Snapshot, TurnMark
from .format import SessionFile, compare, write_session_file

__all__ = [
    "part",
    "read_conversation",
    "read_snapshot",
    "recorded",
    "requirements",
    "save_session",
    "write_snapshot",
]


def requirements(engine: Engine, model: ModelFile) -> dict[str, Any]:
    """What a file must agree with to be loaded, most telling field first."""
    info = engine.info
    return {
        "model": model.fingerprint,
        "context": {
            "state_format": info.state_format,
            "kv_type_k": info.kv_type_k,
            "kv_type_v": info.kv_type_v,
            "flash_attention": info.flash_attention,
            "rope": "model",
            "lora": [],
            "byte_order": sys.byteorder,
        },
    }


def recorded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says it was saved with, and what went without saying when it was saved."""
    context: dict[str, Any] = {"byte_order": "little"}
    return {**manifest, "context": context | part(manifest, "context")}


def part(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields under a name of the manifest; none where it is something else."""
    value = manifest.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def save_session(
    session: Session, model: ModelFile, sampling: SamplingParams, path: PathLike
) -> SessionInfo:
    """Write the session to a file, whole or not at all.

    Raises:
        NoSession: there is no conversation.
        SessionWriteError: the file cannot be written.
        EngineError: tokens that the cache had lost could not be evaluated again.
    """
    session.kv.check()
    if not session.active:
        raise NoSession("there is no session to save: generate something first")
    if session.kv.owed:
        session.engine.clear_cancel()
        session.kv.append([])
    return write_snapshot(path, session.snapshot(), session.engine, model, sampling)


def write_snapshot(
    path: PathLike, snapshot: Snapshot, engine: Engine, model: ModelFile, sampling: SamplingParams
) -> SessionInfo:
    """Write a conversation at rest to a file. Asks the engine for its data only, so any thread may.

    Raises:
        SessionWriteError: the file cannot be written.
    """
    info = engine.info
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    manifest = requirements(engine, model)
    manifest["context"]["n_ctx"] = info.n_ctx
    manifest |= {
        "model_name": model.name,
        "messages": snapshot.messages,
        "turns": [dataclasses.astuple(mark) for mark in snapshot.turns],
        "sampling": dataclasses.asdict(sampling),
        "n_tokens": len(snapshot.tokens),
        "owed": snapshot.tokens[snapshot.held :],
        "created": created,
        "backend": engine.backend,
        "engine": info.version,
        "llama_bridge": __version__,
    }
    held = snapshot.tokens[: snapshot.held]
    state = memoryview(b"") if snapshot.state is None else snapshot.state[engine.state_prefix :]
    version = int(info.state_format.rpartition("-")[2])
    size = write_session_file(path, manifest, held, state, version)
    n_tokens = len(snapshot.tokens)
    return SessionInfo(Path(path), n_tokens, size, snapshot.messages, created, snapshot.held)


def read_snapshot(path: PathLike, file: SessionFile, engine: Engine, model: ModelFile) -> Snapshot:
    """The conversation in a file, compared field by field with what it is to run on.

    Raises:
        SessionMismatch: saved with something else.
        SessionCorrupt: it contradicts itself.
    """
    info, manifest = engine.info, recorded(file.manifest)
    compare(path, manifest, requirements(engine, model))
    snapshot = read_conversation(path, file)
    if len(snapshot.tokens) > info.n_ctx:
        why = f"its {len(snapshot.tokens)} tokens do not fit"
        raise SessionMismatch(
            path, "context.n_ctx", manifest["context"].get("n_ctx"), info.n_ctx, why
        )
    if not all(0 <= token < info.n_vocab for token in snapshot.tokens):
        raise SessionCorrupt(path, "its token ledger names tokens that the model does not have")
    return snapshot


def read_conversation(path: PathLike, file: SessionFile) -> Snapshot:
    """The conversation in a file, whatever it was saved with.

    Raises:
        SessionCorrupt: it contradicts itself.
    """
    manifest = file.manifest
    owed = _token_list(path, manifest.get("owed", []))
    tokens = (*file.tokens, *owed)
    if not tokens or manifest.get("n_tokens") != len(tokens):
        raise SessionCorrupt(path, "its token ledger contradicts its manifest")
    try:
        saved = manifest.get("messages")
        messages = check_messages(saved) if saved else []
    except (InvalidInput, TypeError) as error:
        raise SessionCorrupt(path, f"its messages cannot be used: {error}") from error
    turns = _turn_marks(path, manifest.get("turns", []), len(tokens), len(messages))
    state = file.state if file.tokens else None
    return Snapshot(tokens, len(file.tokens), tuple(messages), turns, state, origin=object())


def _token_list(path: PathLike, value: object) -> list[int]:
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    tokens = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
    if len(tokens) != len(items):
        raise SessionCorrupt(path, "its token ledger is no list of tokens")
    return tokens


def _turn_marks(path: PathLike, value: Any, n_tokens: int, n_messages: int) -> tuple[TurnMark, ...]:
    try:
        rows = cast("list[list[int]]", value)
        marks = tuple(TurnMark(int(start), int(end), int(n)) for start, end, n in rows)
    except (TypeError, ValueError, OverflowError) as error:  # int() of infinity
        raise SessionCorrupt(path, f"its turns cannot be used: {error}") from error
    last = 0
    for mark in marks:
        if not (
            last <= mark.start < mark.prompt_end <= n_tokens and 0 <= mark.n_messages <= n_messages
        ):
            raise SessionCorrupt(path, "its turns contradict its token ledger")
        last = mark.prompt_end
    return marks
