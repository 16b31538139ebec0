"""Checks by fields and logits whether a session file fits this model and context."""

from __future__ import annotations

from collections.abc import Generator

from ..checks import full_path
from ..errors import PathLike, SessionCorrupt, SessionMismatch
from ..files.compatibility import compare_fields, context_room, recorded, requirements
from ..files.format import FORMAT, SessionFile, read_session_file
from ..files.manifest import read_snapshot
from ..progress import OnProgress
from ..verification import FieldCheck, Verification
from .active import Active
from .logit_check import compare_logits

__all__ = ["verify_file"]


def verify_file(
    active: Active, path: PathLike, deep: bool, on_progress: OnProgress | None
) -> Verification:
    """Try to load a session file. Afterwards the cache may hold anything.

    Raises:
        SessionNotFound, SessionCorrupt: there is nothing to compare.
        SessionMismatch: another version of the format.
        ContextOverflow: ``deep`` needs room for one more token.
        SessionCancelled, EngineError: during ``deep``.
    """
    file = read_session_file(path, state_prefix=active.engine.state_prefix)
    fields = tuple(_fields(file, active))
    refusal = logits = None
    try:
        snapshot = read_snapshot(path, file, active.made_with)
        if not active.restore(snapshot):
            refusal = "llama.cpp refused its KV state"
        elif deep:
            logits = compare_logits(active, snapshot, on_progress)
    except (SessionCorrupt, SessionMismatch) as error:
        refusal = error.reason
    place = full_path("path", path)
    return Verification(place, file.n_bytes, file.n_tokens, fields, refusal, logits)


def _fields(file: SessionFile, active: Active) -> Generator[FieldCheck]:
    saved, info = recorded(file.manifest), active.engine.info
    yield FieldCheck("format", FORMAT, FORMAT, True)  # a file in another format never gets here
    yield from compare_fields(saved, requirements(info, active.model, info.adapters))
    yield context_room(file.n_tokens, saved["context"].get("n_ctx"), info)
