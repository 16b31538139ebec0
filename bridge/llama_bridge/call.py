"""What is asked of a conversation, and the checks that come before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InvalidInput
from .params import SamplingParams

__all__ = ["Call", "check_prompt", "check_stops", "check_text"]


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, unchecked. ``prompt`` is None to answer the last one anew."""

    prompt: str | None
    params: SamplingParams | None
    stop: str | Sequence[str]
    chat: bool | None = None
    json_schema: Mapping[str, object] | None = None
    continues: bool = True


def check_text(name: str, text: str) -> str:
    """A string that can be UTF-8, or InvalidInput that names it."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} holds a lone surrogate, which is no text: {error}") from error
    return text


def check_prompt(prompt: str, chat: bool) -> str:
    """A prompt with something in it."""
    check_text("prompt", prompt)
    if not prompt or (chat and not prompt.strip()):
        raise InvalidInput("prompt is empty: give some text")
    return prompt


def check_stops(stop: str | Sequence[str]) -> list[str]:
    """Stop strings as a list, none of them empty."""
    stops = [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not check_text("stop", text):
            raise InvalidInput("stop holds an empty string, which would end every answer at once")
    return stops
