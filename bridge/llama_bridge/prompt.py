"""A prompt in pieces: the chat template's text and what people said."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidInput

__all__ = ["Piece", "Prompt"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt.

    Attributes:
        text: as it is tokenised.
        control: whether the control tokens that it spells count as such; otherwise they are text like any other.
    """

    text: str
    control: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """Raw text for a model that may hold control tokens: made by ``apply_chat_template``, or by hand.

    A plain string never becomes a control token, whatever it spells. In a prompt, the pieces marked ``control`` do:
    ``Prompt.control("<|fim_prefix|>") + code + Prompt.control("<|fim_suffix|>")``. A string that is added to a prompt
    stays text. Pieces are checked when the prompt is used.

    Attributes:
        pieces: in order.
    """

    pieces: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, text: str | Prompt) -> Prompt:
        """A prompt as it is; a string as text."""
        return text if isinstance(text, Prompt) else cls.text(text)

    @classmethod
    def text(cls, text: str) -> Prompt:
        """Text in which nothing is a control token."""
        return cls((Piece(_checked(text)),))

    @classmethod
    def control(cls, text: str) -> Prompt:
        """Text whose control tokens count. Never give it what somebody else wrote."""
        return cls((Piece(_checked(text), control=True),))

    def __add__(self, other: Prompt | str) -> Prompt:
        if not isinstance(other, Prompt | str):
            return NotImplemented
        return Prompt(self.pieces + Prompt.of(other).pieces)

    def __radd__(self, other: str) -> Prompt:
        return Prompt.text(other) + self if isinstance(other, str) else NotImplemented

    def __str__(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"text must be a str, got {type(text).__name__}")
    return text
