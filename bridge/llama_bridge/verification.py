"""The result of checking a session file: field by field, and by its logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FieldCheck", "LogitCheck", "Verification"]


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One field of a session file's manifest.

    Attributes:
        field: its name, as in :class:`SessionMismatch`.
        saved: its value in the file.
        current: its value for the loaded model and context.
        same: whether the two fit; the context may be larger than the saved one.
    """

    field: str
    saved: object
    current: object
    same: bool


@dataclass(frozen=True, slots=True)
class LogitCheck:
    """How far the logits after a restored KV cache differ from those after a fresh evaluation.

    Differences are root mean squares over the vocabulary and all positions, as a share of the standard
    deviation of the logits.

    Attributes:
        positions: how many tokens were evaluated after the conversation, to compare the logits at each.
        agreeing: at how many of them both have the same most probable token.
        difference: to the closer of two fresh evaluations.
        normal: the difference between these two.
        limit: the largest difference that passes.
        seconds: wall time of the whole check.
    """

    positions: int
    agreeing: int
    difference: float
    normal: float
    limit: float
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the KV cache is right, as far as logits can tell. NaN is never right."""
        return self.difference <= self.limit


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of checking a session file.

    Attributes:
        path: the file, absolute.
        n_bytes: its size.
        n_tokens: how many tokens its conversation has.
        fields: everything that was compared.
        refusal: why ``session_load`` would refuse it, or None.
        logits: whether its KV cache is right; None if that was not asked for, or if the file is refused.
    """

    path: Path
    n_bytes: int
    n_tokens: int
    fields: tuple[FieldCheck, ...]
    refusal: str | None
    logits: LogitCheck | None = None

    @property
    def ok(self) -> bool:
        """Whether the file can be loaded and, if that was checked, its KV cache is right."""
        return self.refusal is None and (self.logits is None or self.logits.ok)
