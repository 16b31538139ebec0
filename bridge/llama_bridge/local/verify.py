"""Whether a session file is what this model and context would have made: by its fields, and by its logits."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..files.format import FORMAT, SessionFile, read_session_file
from ..files.manifest import read_snapshot, recorded, requirements
from ..models.source import ModelFile
from .active import Session
from .logit_check import LogitCheck, compare_logits

__all__ = ["FieldCheck", "Verification", "verify_file"]


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One field of the manifest.

    Attributes:
        field: its name, as :class:`SessionMismatch` has it.
        saved: its value in the file.
        current: its value for the model and context of now.
        same: whether the two go together; a context may be larger than the saved one.
    """

    field: str
    saved: object
    current: object
    same: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a session file when it was tried.

    Attributes:
        path: of the file.
        n_bytes: its size.
        n_tokens: length of its token ledger.
        fields: everything that is compared.
        refusal: why ``session_load`` would refuse it, or None.
        logits: whether its KV cache is right; None where that was not asked for, or it is refused.
    """

    path: Path
    n_bytes: int
    n_tokens: int
    fields: tuple[FieldCheck, ...]
    refusal: str | None
    logits: LogitCheck | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be loaded and, where that was looked at, its KV cache is right."""
        return self.refusal is None and (self.logits is None or self.logits.ok)


def verify_file(session: Session, model: ModelFile, path: PathLike, deep: bool) -> Verification:
    """Try a session file. The session is as it was afterwards.

    Raises:
        SessionNotFound, SessionCorrupt: there is nothing to compare.
        SessionMismatch: another version of the format.
        ContextOverflow: ``deep`` needs room for one token more.
        SessionCancelled, EngineError: in the middle of ``deep``.
    """
    engine = session.engine
    file = read_session_file(path, state_prefix=engine.state_prefix)
    fields = tuple(_fields(file, session, model))
    n_tokens = len(file.tokens) + _count(file.manifest.get("owed"))
    refusal = logits = None
    before = session.snapshot()
    try:
        snapshot = read_snapshot(path, file, engine, model)
        if not session.restore(snapshot):
            refusal = "llama.cpp refused its KV state"
        elif deep:
            logits = compare_logits(session, snapshot)
    except (SessionCorrupt, SessionMismatch) as error:
        refusal = error.reason
    finally:
        session.put_back(before)
    return Verification(Path(path), file.n_bytes, n_tokens, fields, refusal, logits)


def _fields(file: SessionFile, session: Session, model: ModelFile) -> Generator[FieldCheck]:
    saved, engine = recorded(file.manifest), session.engine
    yield FieldCheck("format", FORMAT, FORMAT, True)  # another one is not read so far
    yield from _compare(saved, requirements(engine, model))
    n_ctx, n_tokens = engine.info.n_ctx, len(file.tokens) + _count(saved.get("owed"))
    yield FieldCheck("context.n_ctx", saved["context"].get("n_ctx"), n_ctx, n_tokens <= n_ctx)


def _compare(
    saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = ""
) -> Generator[FieldCheck]:
    """As ``session_file.compare``, but to the end."""
    for key, value in current.items():
        was = saved.get(key)
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", was if isinstance(was, dict) else {})
            yield from _compare(inner, cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            same = was == value and type(was) is type(value)
            yield FieldCheck(f"{prefix}{key}", was, value, same)


def _count(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, list) else 0
