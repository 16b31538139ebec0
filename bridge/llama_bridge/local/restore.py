"""Loads a session file: checked first, then carried out, so that a refusal changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checks import full_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..files.bare import is_bare, read_bare
from ..files.format import read_session_file
from ..files.manifest import read_snapshot
from ..progress import OnProgress
from ..snapshot import SessionInfo, Snapshot
from .active import Active
from .replay import evaluate, plan_replay

__all__ = ["LoadPlan", "carry_out", "plan_load"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A session file that passed the checks.

    Attributes:
        path: the file, as the caller wrote it.
        n_bytes: size of the file.
        created: when it was saved, or empty.
        snapshot: the conversation; without a state if it must be evaluated again.
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

    @property
    def is_risky(self) -> bool:
        """Whether it may well fail. A state that passed the checks is hardly ever refused."""
        return self.replay or self.bare or self.snapshot.state is None


def plan_load(active: Active, path: PathLike, replay: bool, trust_unverified: bool) -> LoadPlan:
    """Check a session file. This does not change the session.

    Raises:
        SessionNotFound, SessionCorrupt, SessionMismatch.
        ContextOverflow: it must be evaluated again and does not fit.
    """
    if trust_unverified and is_bare(path):
        snapshot, n_bytes = read_bare(path, active.made_with)
        return LoadPlan(path, n_bytes, "", snapshot, replay, bare=True)
    file = read_session_file(path, state_prefix=active.engine.state_prefix)
    created = str(file.manifest.get("created", ""))
    why = None
    try:
        snapshot = read_snapshot(path, file, active.made_with)
    except SessionMismatch as mismatch:
        if not replay:
            raise _with_way_out(mismatch) from None
        snapshot, why = plan_replay(active, path, file, mismatch)
    if trust_unverified:
        snapshot = replace(
            snapshot, origin=None
        )  # its cells are what it says: they serve others, too
    return LoadPlan(path, file.n_bytes, created, snapshot, replay, why)


def carry_out(active: Active, plan: LoadPlan, on_progress: OnProgress | None) -> SessionInfo:
    """Make the conversation of a plan the active one. If that fails, the cache may hold anything.

    Raises:
        SessionCorrupt: the engine refused the state, and evaluating it again was not allowed.
        SessionCancelled, EngineError: while it was evaluated again.
    """
    snapshot, why, n = plan.snapshot, plan.replayed, len(plan.snapshot.tokens)
    if snapshot.state is None:
        why = why or f"its KV cache was left out: its {n} tokens were evaluated again"
    else:
        try:
            take_state(active, plan)
            return _info(active, plan, 0, None)
        except SessionCorrupt:
            if not plan.replay:
                raise
        why = f"llama.cpp refused its KV state: its {n} tokens were evaluated again"
    return _info(active, plan, evaluate(active, snapshot.bare(), on_progress), why)


def _with_way_out(error: SessionMismatch) -> SessionMismatch:
    why = "load it with replay=True to evaluate the conversation again"
    if error.field == "context.n_ctx":  # replay would not make it shorter
        why = error.why
    return SessionMismatch(error.path, error.field, error.saved, error.current, why)


def take_state(active: Active, plan: LoadPlan) -> None:
    """Let the engine load the state of a plan.

    Raises:
        SessionCorrupt: it refused. The previous conversation stays; if the engine touched it, it is owed.
    """
    snapshot = plan.snapshot
    if plan.bare:
        assert snapshot.state is not None
        taken = active.adopt(snapshot.tokens, snapshot.state)
    else:
        taken = active.restore(snapshot)
    if not taken:
        raise SessionCorrupt(
            plan.path,
            "llama.cpp refused its KV state; the previous session is kept; "
            "load it with replay=True to evaluate the conversation again",
        )


def _info(active: Active, plan: LoadPlan, evaluated: int, why: str | None) -> SessionInfo:
    snapshot, cached = plan.snapshot, len(active.kv.tokens) - evaluated
    return SessionInfo(
        full_path("path", plan.path),
        len(snapshot.tokens),
        plan.n_bytes,
        snapshot.messages,
        plan.created,
        cached,
        evaluated,
        why,
    )
