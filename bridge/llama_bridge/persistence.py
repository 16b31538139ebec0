"""Saving a session to a file and taking it back: what is recorded, what is compared."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import (
    InvalidInput,
    NoSession,
    PathLike,
    SessionCorrupt,
    SessionMismatch,
)
from .models import ModelFile
from .params import SamplingParams
from .session import Session
from .session_file import SessionFile, compare, read_session_file, write_session_file
from .templates import Message, check_messages

__all__ = ["SessionInfo", "load_session", "save_session"]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session file that was written or taken over.

    Attributes:
        path: of the file.
        n_tokens: length of the token ledger.
        n_bytes: size of the file.
        messages: the conversation, where it was chat.
        created: when it was saved, ISO 8601, UTC.
    """

    path: Path
    n_tokens: int
    n_bytes: int
    messages: tuple[Message, ...]
    created: str


def _requirements(session: Session, model: ModelFile) -> dict[str, Any]:
    """What a file must agree with to be loaded, most telling field first."""
    info = session.engine.info
    return {
        "model": model.fingerprint,
        "context": {
            "state_format": info.state_format,
            "kv_type_k": info.kv_type_k,
            "kv_type_v": info.kv_type_v,
            "flash_attention": info.flash_attention,
            "rope": "model",
            "lora": [],
        },
    }


def save_session(
    session: Session, model: ModelFile, sampling: SamplingParams, path: PathLike, version: str
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
    tokens = session.kv.tokens
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    manifest = _requirements(session, model)
    manifest["context"]["n_ctx"] = session.engine.info.n_ctx
    manifest |= {
        "model_name": model.name,
        "messages": session.messages,
        "sampling": dataclasses.asdict(sampling),
        "n_tokens": len(tokens),
        "created": created,
        "backend": session.engine.backend,
        "engine": session.engine.info.version,
        "llama_bridge": version,
    }
    size = write_session_file(
        path, lambda temporary: session.engine.state_save(temporary, tokens), manifest
    )
    return SessionInfo(Path(path), len(tokens), size, tuple(session.messages), created)


def load_session(session: Session, model: ModelFile, path: PathLike) -> SessionInfo:
    """Check a session file and take it over; a refused one leaves the session as it is.

    Raises:
        SessionNotFound, SessionCorrupt, SessionMismatch.
    """
    file = read_session_file(path)
    messages = _check(path, file, session, model)
    engine, tokens = session.engine, file.tokens
    if not session.kv.replace(lambda: engine.state_load(str(file.path), len(tokens)), tokens):
        raise SessionCorrupt(path, "llama.cpp refused its KV state; the previous session is kept")
    session.messages = messages
    created = str(file.manifest.get("created", ""))
    return SessionInfo(Path(path), len(tokens), file.n_bytes, tuple(messages), created)


def _check(path: PathLike, file: SessionFile, session: Session, model: ModelFile) -> list[Message]:
    info = session.engine.info
    compare(path, file.manifest, _requirements(session, model))
    if len(file.tokens) > info.n_ctx:
        saved = file.manifest["context"].get("n_ctx")
        raise SessionMismatch(path, "context.n_ctx", saved, info.n_ctx)
    if not file.tokens or file.manifest.get("n_tokens") != len(file.tokens):
        raise SessionCorrupt(path, "its token ledger contradicts its manifest")
    if not all(0 <= token < info.n_vocab for token in file.tokens):
        raise SessionCorrupt(path, "its token ledger names tokens that the model does not have")
    try:
        saved_messages = file.manifest.get("messages")
        return check_messages(saved_messages) if saved_messages else []
    except (InvalidInput, TypeError) as error:
        raise SessionCorrupt(path, f"its messages cannot be used: {error}") from error
