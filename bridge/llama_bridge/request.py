"""What a runtime is asked: one prompt in one conversation, checked, with all its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .generation import Fallback
from .grammar import Grammar
from .params import SamplingParams
from .progress import OnProgress
from .prompt import Prompt

__all__ = ["DEFAULT", "Request"]

DEFAULT = ""
"""Name of the conversation that the bridge's own calls use."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to answer. Its capabilities were checked: a runtime gets only what it can do.

    Attributes:
        prompt: a user turn if ``chat`` is set, otherwise raw text: a string without control tokens, or pieces that may
            contain some. None answers the conversation's last prompt again.
        sampling: how tokens are drawn.
        session: name of the conversation.
        stop: strings that end the answer and are not part of it. None of them is empty.
        chat: whether the model's chat template is used.
        continues: whether the prompt continues the conversation. If that is empty, the prompt starts it, and the
            answer says ``Fallback.NO_SESSION``.
        system: system message at the start of a fresh chat, or None.
        grammar: what the answer must look like, or None. ``stop`` is empty then, unless the grammar is lazy.
        schema: the JSON schema that the grammar was made of, for runtimes whose servers take no grammar; or None.
        logprobs: how many of the best tokens to report with each token of the answer; None reports nothing.
        fallback: why ``continues`` is False although the caller asked for it. It becomes part of the answer.
        on_progress: called with the progress of the prefill, or None.
        keeps: texts of control tokens that are part of the answer's text, because its reader needs them.
        told: the messages that the prompt was made of. They become the conversation's, with the answer.
        reads: makes the answer's message of its text, and of whether it was cut; None for a message of that text.
    """

    prompt: str | Prompt | None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    session: str = DEFAULT
    stop: tuple[str, ...] = ()
    chat: bool = False
    continues: bool = False
    system: str | None = None
    grammar: Grammar | None = None
    schema: Mapping[str, Any] | bool | None = None
    logprobs: int | None = None
    fallback: Fallback | None = None
    on_progress: OnProgress | None = None
    keeps: tuple[str, ...] = ()
    told: tuple[Mapping[str, Any], ...] = ()
    reads: Callable[[str, bool], Mapping[str, Any]] | None = None
