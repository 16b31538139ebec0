"""Rebuilds a saved conversation whose KV cache cannot be used by evaluating it again."""

from __future__ import annotations

from ..chat.message import Message
from ..errors import (
    ContextOverflow,
    PathLike,
    SessionCancelled,
    SessionMismatch,
    TemplateError,
)
from ..files.compatibility import part, refuse_foreign_tokens
from ..files.format import SessionFile
from ..files.manifest import read_conversation
from ..progress import OnProgress
from ..snapshot import Snapshot
from .active import Active

__all__ = ["evaluate", "plan_replay"]


def plan_replay(
    active: Active,
    path: PathLike,
    file: SessionFile,
    mismatch: SessionMismatch,
) -> tuple[Snapshot, str]:
    """The conversation of a file in a form that this model can evaluate, and why that is needed.

    These are the saved tokens if the vocabulary is the same, otherwise the messages in this model's chat template.

    Raises:
        SessionMismatch: the vocabulary differs, and the conversation is not only messages.
        ContextOverflow: it does not fit.
        SessionCorrupt: it contradicts itself.
    """
    info, saved = active.engine.info, read_conversation(path, file)
    was = part(file.manifest, "model").get("vocabulary")
    now = active.model.fingerprint["vocabulary"]
    if was == now:
        snapshot = saved.bare()
        refuse_foreign_tokens(path, snapshot.tokens, info)
        how = f"its {len(snapshot.tokens)} tokens were evaluated again"
    else:
        try:
            snapshot = active.spelling.plan_messages(_messages(saved))
        except TemplateError as error:
            why = f"cannot be replayed with another vocabulary: {error}"
            raise SessionMismatch(path, "model.vocabulary", was, now, why) from mismatch
        n = len(snapshot.messages)
        how = f"its {n} messages were rendered with this model's chat template and evaluated"
    if len(snapshot.tokens) > info.n_ctx:
        raise ContextOverflow(len(snapshot.tokens) + 1, info.n_ctx) from mismatch
    return snapshot, f"{mismatch.field} differs: {how}"


def _messages(saved: Snapshot) -> tuple[Message, ...]:
    """The messages, if they are the whole conversation.

    Raises:
        TemplateError: there is other text too, or they are not a chat.
    """
    roles = [message["role"] for message in saved.messages]
    chat = roles[1:] if roles[:1] == ["system"] else roles
    n_answers = len(chat) // 2
    if not saved.messages or (saved.turns and len(saved.turns) != n_answers):
        raise TemplateError("some of it is raw text, whose tokens mean something else there")
    if chat != ["user", "assistant"] * n_answers:
        raise TemplateError("its messages do not alternate between user and assistant")
    return saved.messages


def evaluate(active: Active, snapshot: Snapshot, on_progress: OnProgress | None) -> int:
    """Make a snapshot without a state the conversation and evaluate it; returns the number of tokens evaluated.

    If the cache already has its beginning, that is not evaluated again.

    Raises:
        SessionCancelled, EngineError: some of it is still owed.
    """
    active.restore(snapshot)
    held = len(active.kv.tokens)
    active.engine.clear_cancel()
    if not active.kv.append([], on_progress):
        raise SessionCancelled("cancelled while the conversation was being evaluated again")
    return len(active.kv.tokens) - held
