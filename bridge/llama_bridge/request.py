"""What is asked of a runtime: one prompt in one conversation, checked and with all its settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from .generation import Fallback
from .params import SamplingParams
from .progress import OnProgress
from .prompt import Prompt

__all__ = ["DEFAULT", "Request"]

DEFAULT = ""
"""Name of the conversation that the bridge's own calls continue."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer. The flags that it needs were looked at: a runtime gets only what it can do.

    Attributes:
        prompt: a user turn where ``chat``, else raw text: a string, in which nothing is a control token, or pieces of
            which some may be. None answers the last prompt of the conversation anew.
        sampling: how tokens are drawn.
        session: name of the conversation.
        stop: strings that end the answer and are not part of it; none is empty.
        chat: whether the model's chat template is used.
        continues: whether the prompt follows what the conversation holds. Where that is nothing, it begins one,
            and the answer says ``Fallback.NO_SESSION``.
        system: system message at the start of a fresh chat, or None.
        fallback: why it was not asked to continue, though the caller did; goes into the answer.
        on_progress: told how far the prefill is, or None.
    """

    prompt: str | Prompt | None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    session: str = DEFAULT
    stop: tuple[str, ...] = ()
    chat: bool = False
    continues: bool = False
    system: str | None = None
    fallback: Fallback | None = None
    on_progress: OnProgress | None = None
