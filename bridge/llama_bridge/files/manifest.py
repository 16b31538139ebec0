"""A conversation to a session file and back: what is stored with the KV cache."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, cast

from .._version import __version__
from ..chat.message import check_messages
from ..checks import full_path
from ..engine import EngineInfo
from ..errors import InvalidInput, PathLike, SessionCorrupt
from ..models.source import ModelFile
from ..params import SamplingParams
from ..snapshot import SessionInfo, Snapshot, TurnMark
from .compatibility import (
    compare,
    recorded,
    refuse_foreign_tokens,
    refuse_what_does_not_fit,
    requirements,
    state_version,
)
from .format import SessionFile, read_session_file, write_session_file

__all__ = ["MadeWith", "drop_state", "read_conversation", "read_snapshot", "write_snapshot"]


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What a KV cache was made with, as recorded in a file.

    Attributes:
        model: the model's file.
        info: facts about the model and its context.
        backend: name of the backend.
        state_prefix: bytes at the front of a state that only the engine uses.
    """

    model: ModelFile
    info: EngineInfo
    backend: str
    state_prefix: int


def write_snapshot(
    path: PathLike,
    snapshot: Snapshot,
    made_with: MadeWith,
    sampling: SamplingParams | None = None,
    *,
    follow: bool = True,
) -> SessionInfo:
    """Write a conversation at rest to a file. Needs no engine, so any thread may do it.

    Records the sampling of the last answer, or ``sampling`` if there is none. Without ``follow``, a link at that
    path is refused.

    Raises:
        SessionWriteError: the file cannot be written.
    """
    place = full_path("path", path)
    info, model = made_with.info, made_with.model
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    manifest = requirements(info, model, snapshot.adapters)
    manifest["context"]["n_ctx"] = info.n_ctx
    manifest |= {
        "model_name": model.name,
        "messages": snapshot.messages,
        "turns": [dataclasses.astuple(mark) for mark in snapshot.turns],
        "sampling": _recorded(snapshot.sampling or sampling or SamplingParams()),
        "n_tokens": len(snapshot.tokens),
        "owed": snapshot.tokens[snapshot.held :],
        "created": created,
        "backend": made_with.backend,
        "engine": info.version,
        "llama_bridge": __version__,
    }
    held = snapshot.tokens[: snapshot.held]
    state = memoryview(b"") if snapshot.state is None else snapshot.state[made_with.state_prefix :]
    size = write_session_file(path, manifest, held, state, state_version(info), follow=follow)
    n_tokens = len(snapshot.tokens)
    return SessionInfo(place, n_tokens, size, snapshot.messages, created, snapshot.held)


def read_snapshot(path: PathLike, file: SessionFile, made_with: MadeWith) -> Snapshot:
    """Read the conversation in a file, after comparing each field with the current model and context.

    Raises:
        SessionMismatch: saved with another model or settings.
        SessionCorrupt: it contradicts itself.
    """
    info, manifest = made_with.info, recorded(file.manifest)
    compare(path, manifest, requirements(info, made_with.model, info.adapters))
    snapshot = read_conversation(path, file)
    refuse_what_does_not_fit(path, len(snapshot.tokens), manifest["context"].get("n_ctx"), info)
    refuse_foreign_tokens(path, snapshot.tokens, info)
    return dataclasses.replace(snapshot, adapters=info.adapters)


def read_conversation(path: PathLike, file: SessionFile) -> Snapshot:
    """Read the conversation in a file, whatever it was saved with.

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
    return Snapshot(
        tokens,
        held=len(file.tokens),
        messages=tuple(messages),
        turns=turns,
        state=file.state if file.tokens else None,
        sampling=_sampling(manifest.get("sampling")),
        origin=object(),
    )


def drop_state(path: str) -> int:
    """Rewrite a session file without its KV cache; returns its size in bytes.

    The conversation stays, all of it owed. Only an intact file is rewritten, so the new digest covers verified
    content. Links are not followed.

    Raises:
        SessionNotFound, SessionCorrupt, SessionMismatch, SessionWriteError.
    """
    file = read_session_file(path, follow=False)
    conversation = read_conversation(path, file)
    manifest = file.manifest | {"owed": conversation.tokens}
    return write_session_file(path, manifest, [], memoryview(b""), 0, follow=False)


def _recorded(sampling: SamplingParams) -> dict[str, Any]:
    """Sampling as JSON. Its keys are texts, and it has no infinity: a bias is a pair, and null bans a token."""
    fields: dict[str, Any] = {
        field.name: getattr(sampling, field.name) for field in dataclasses.fields(sampling)
    }
    bias = [
        (token, None if value == -math.inf else value)
        for token, value in sampling.logit_bias.items()
    ]
    return fields | {"logit_bias": bias}


def _sampling(value: object) -> SamplingParams | None:
    """The sampling of the last answer; None if the file has no valid one. Older files have fewer fields."""
    if not isinstance(value, dict):
        return None
    try:
        fields = dict(cast("dict[str, Any]", value))
        if "logit_bias" in fields:
            pairs = fields["logit_bias"]
            fields["logit_bias"] = {
                token: -math.inf if number is None else number for token, number in pairs
            }
        return SamplingParams(**fields)
    except (InvalidInput, TypeError, ValueError):
        return None


def _token_list(path: PathLike, value: object) -> list[int]:
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    tokens = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
    if len(tokens) != len(items):
        raise SessionCorrupt(path, "its token ledger is not a list of tokens")
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
