"""Rebuilding a saved conversation whose KV cache cannot be used, by evaluating it again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ..chat.template import Message
from ..errors import (
    ContextOverflow,
    PathLike,
    SessionCancelled,
    SessionCorrupt,
    SessionMismatch,
    TemplateError,
)
from ..files.format import SessionFile
from ..files.manifest import part, read_conversation
from ..models.source import ModelFile
from ..snapshot import Snapshot
from .active import Session
from .restore import LoadPlan, take_state

__all__ = ["as_it_was", "evaluate", "plan_replay", "take_with_care"]


def plan_replay(
    session: Session,
    model: ModelFile,
    path: PathLike,
    file: SessionFile,
    mismatch: SessionMismatch,
) -> tuple[Snapshot, str]:
    """The conversation of a file as this model can evaluate it, and why that is needed.

    The saved tokens where the vocabulary is the same, else the messages in this model's own chat template.

    Raises:
        SessionMismatch: the vocabulary is another, and not everything was said in messages.
        ContextOverflow: it does not fit.
        SessionCorrupt: it contradicts itself.
    """
    engine, saved = session.engine, read_conversation(path, file)
    was = part(file.manifest, "model").get("vocabulary")
    now = model.fingerprint["vocabulary"]
    if was == now:
        snapshot = saved.bare()
        if not all(0 <= token < engine.info.n_vocab for token in snapshot.tokens):
            raise SessionCorrupt(path, "its token ledger names tokens that the model does not have")
        how = f"its {len(snapshot.tokens)} tokens were evaluated again"
    else:
        try:
            snapshot = session.plan_messages(_messages(saved))
        except TemplateError as error:
            why = f"no replay with another vocabulary: {error}"
            raise SessionMismatch(path, "model.vocabulary", was, now, why) from mismatch
        n = len(snapshot.messages)
        how = f"its {n} messages were rendered with this model's chat template and evaluated"
    if len(snapshot.tokens) > engine.info.n_ctx:
        raise ContextOverflow(len(snapshot.tokens) + 1, engine.info.n_ctx) from mismatch
    return snapshot, f"{mismatch.field} differs: {how}"


def _messages(saved: Snapshot) -> tuple[Message, ...]:
    """The messages, if they are the whole conversation.

    Raises:
        TemplateError: there is text beside them, or they are no chat.
    """
    roles = [message["role"] for message in saved.messages]
    chat = roles[1:] if roles[:1] == ["system"] else roles
    n_answers = len(chat) // 2
    if not saved.messages or (saved.turns and len(saved.turns) != n_answers):
        raise TemplateError("some of it is raw text, whose tokens mean something else there")
    if chat != ["user", "assistant"] * n_answers:
        raise TemplateError("its messages are not questions and answers in turn")
    return saved.messages


def take_with_care(session: Session, plan: LoadPlan) -> tuple[int, str | None]:
    """Take a plan's state, or evaluate its tokens where there is none or the engine refuses it.

    Returns how many tokens were evaluated and why, or None. Whatever goes wrong, the session is as it was.

    Raises:
        SessionCorrupt: the engine refused, and the plan is not to be evaluated again.
        SessionCancelled, EngineError.
    """
    snapshot, why = plan.snapshot, plan.replayed
    with as_it_was(session):
        if snapshot.state is not None:
            try:
                take_state(session, plan)
                return 0, None
            except SessionCorrupt:
                if not plan.replay:
                    raise
            n = len(snapshot.tokens)
            why = f"llama.cpp refused its KV state: its {n} tokens were evaluated again"
        return evaluate(session, snapshot.bare()), why


def evaluate(session: Session, snapshot: Snapshot) -> int:
    """Make a snapshot without a state the conversation and evaluate it; returns how many tokens that were.

    What the cache holds of its beginning is not evaluated again.

    Raises:
        SessionCancelled, EngineError: some of it is still owed.
    """
    session.restore(snapshot)
    held = len(session.kv.tokens)
    session.engine.clear_cancel()
    if not session.kv.append([]):
        raise SessionCancelled("cancelled while the conversation was evaluated again")
    return len(session.kv.tokens) - held


@contextmanager
def as_it_was(session: Session) -> Generator[None]:
    """Puts the conversation back, cache and all, if the block fails."""
    before = session.snapshot()
    try:
        yield
    except BaseException:
        session.put_back(before)
        raise
