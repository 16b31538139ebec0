"""Taking a session file over: checked first, then carried out, so that a refusal touches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..files.format import read_session_file
from ..files.manifest import read_snapshot
from ..models.source import ModelFile
from ..snapshot import SessionInfo, Snapshot
from .active import Session

__all__ = ["LoadPlan", "carry_out", "plan_load"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A session file that may be taken over.

    Attributes:
        path: as it was given.
        n_bytes: size of the file.
        created: when it was saved, or empty.
        snapshot: the conversation; without a state where it is to be evaluated again.
        replay: whether it may be evaluated again.
        replayed: why it is evaluated again, or None.
        bare: whether the state came without a manifest.
    """

    path: PathLike
    n_bytes: int
    created: str
    snapshot: Snapshot
    replay: bool
    replayed: str | None = None
    bare: bool = False


def plan_load(
    session: Session, model: ModelFile, path: PathLike, replay: bool, trust_unverified: bool
) -> LoadPlan:
    """Check a session file; nothing here changes the session.

    Raises:
        SessionNotFound, SessionCorrupt, SessionMismatch.
        ContextOverflow: it is to be evaluated again and does not fit.
    """
    if trust_unverified:
        from ..files.bare import is_bare, read_bare  # rarely used

        if is_bare(path):
            snapshot, n_bytes = read_bare(path, session.engine)
            return LoadPlan(path, n_bytes, "", snapshot, replay, bare=True)
    file = read_session_file(path, state_prefix=session.engine.state_prefix)
    created = str(file.manifest.get("created", ""))
    why = None
    try:
        snapshot = read_snapshot(path, file, session.engine, model)
    except SessionMismatch as mismatch:
        if not replay:
            raise _with_way_out(mismatch) from None
        from .replay import plan_replay  # rarely used

        snapshot, why = plan_replay(session, model, path, file, mismatch)
    return LoadPlan(path, file.n_bytes, created, snapshot, replay, why)


def carry_out(session: Session, plan: LoadPlan) -> SessionInfo:
    """Make the conversation of a plan the session's.

    Raises:
        SessionCorrupt: the engine refused the state. The conversation before stays.
        SessionCancelled, EngineError: while it was evaluated again. The conversation before stays.
    """
    if plan.replay or plan.bare:
        from .replay import take_with_care  # rarely used

        evaluated, why = take_with_care(session, plan)
        return _info(session, plan, evaluated, why)
    # A state that passed the checks is hardly ever refused: no time for a copy of the live one. It would be owed.
    take_state(session, plan)
    return _info(session, plan, 0, None)


def _with_way_out(error: SessionMismatch) -> SessionMismatch:
    why = "session_load(..., replay=True) evaluates the conversation again"
    if error.field == "context.n_ctx":  # which would not make it shorter
        why = error.why
    return SessionMismatch(error.path, error.field, error.saved, error.current, why)


def take_state(session: Session, plan: LoadPlan) -> None:
    """Have the engine take the state of a plan.

    Raises:
        SessionCorrupt: it refused. The conversation before stays; where the engine touched it, it is owed.
    """
    snapshot = plan.snapshot
    if plan.bare:
        assert snapshot.state is not None
        taken = session.adopt(snapshot.tokens, snapshot.state)
    else:
        taken = session.restore(snapshot)
    if not taken:
        raise SessionCorrupt(
            plan.path,
            "llama.cpp refused its KV state; the previous session is kept; "
            "session_load(..., replay=True) evaluates the conversation again",
        )


def _info(session: Session, plan: LoadPlan, evaluated: int, why: str | None) -> SessionInfo:
    snapshot, cached = plan.snapshot, len(session.kv.tokens) - evaluated
    return SessionInfo(
        Path(plan.path),
        len(snapshot.tokens),
        plan.n_bytes,
        snapshot.messages,
        plan.created,
        cached,
        evaluated,
        why,
    )
