"""A turn: what a request appends to a conversation. Planning one changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..chat.message import Message
from ..errors import InvalidInput
from ..generation import Fallback
from ..prompt import Prompt
from ..request import Request
from ..snapshot import TurnMark
from .spelling import Spelling

__all__ = ["Turn", "is_fresh", "plan_again", "plan_fresh", "plan_next"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A checked and tokenised prompt, ready to be evaluated.

    Attributes:
        tokens: tokens to append to the conversation; the whole prompt if ``fresh``.
        fresh: whether it starts a new conversation.
        messages: the conversation up to and including this prompt; empty for raw text.
        fallback: why a continuation runs fresh, or None.
        again: the turn that is answered again, or None.
    """

    tokens: list[int]
    fresh: bool
    messages: list[Message]
    fallback: Fallback | None = None
    again: TurnMark | None = None


def is_fresh(request: Request) -> bool:
    """Whether a request starts a new conversation, whatever was said before."""
    return request.prompt is not None and (bool(request.told) or not request.continues)


def plan_fresh(request: Request, spelling: Spelling) -> Turn:
    """A turn that starts a new conversation.

    Raises:
        InvalidInput, TemplateError, ContextOverflow.
    """
    assert request.prompt is not None
    fallback = Fallback.NO_SESSION if request.continues else request.fallback
    messages = [Message(message) for message in request.told]
    if messages or not request.chat:
        tokens = spelling.turn_tokens(Prompt.of(request.prompt))
    else:
        if request.system is not None:
            messages.append(Message(role="system", content=request.system))
        messages.append(Message(role="user", content=str(request.prompt)))
        tokens = spelling.chat_tokens(messages)
    spelling.check_room(tokens)
    return Turn(tokens, True, messages, request.fallback if request.told else fallback)


def plan_next(
    request: Request, spelling: Spelling, conversation: Sequence[int], said: Sequence[Message]
) -> Turn:
    """A turn that continues a conversation: its tokens, and its messages if it is a chat so far.

    Raises:
        InvalidInput, TemplateError, ContextOverflow.
    """
    prompt = request.prompt
    assert prompt is not None
    messages: list[Message] = []
    if not request.chat:
        tokens = spelling.turn_tokens(Prompt.of(prompt), after=conversation)
    elif said and said[-1]["role"] == "assistant":
        messages = [*said, Message(role="user", content=str(prompt))]
        tokens = spelling.next_turn(messages, conversation)
    else:  # raw text so far: append the first chat turn as the template renders it
        messages = [Message(role="user", content=str(prompt))]
        tokens = spelling.chat_tokens(messages, after=conversation)
    spelling.check_room(tokens, held=len(conversation))
    return Turn(tokens, False, messages)


def plan_again(
    conversation: Sequence[int], said: Sequence[Message], turns: Sequence[TurnMark]
) -> Turn:
    """A turn that answers the last prompt again. All but its last token may stay in the cache.

    Raises:
        InvalidInput: nothing was asked yet.
    """
    if not turns:
        raise InvalidInput("there is no answer to regenerate: generate something first")
    mark = turns[-1]
    messages = list(said[:-1]) if len(said) > mark.n_messages else []
    last = list(conversation[mark.prompt_end - 1 : mark.prompt_end])
    return Turn(last, False, messages, again=mark)
