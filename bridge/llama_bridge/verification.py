"""What became of a session file that was tried: field by field, and by its logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FieldCheck", "LogitCheck", "Verification"]


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One field of the manifest.

    Attributes:
        field: its name, as :class:`SessionMismatch` has it.
        saved: its value in the file.
        current: its value for the model and context of now.
        same: whether the two go together; a context may be larger than the saved one.
    """

    field: str
    saved: object
    current: object
    same: bool


@dataclass(frozen=True, slots=True)
class LogitCheck:
    """How far the logits after a restored KV cache are from those after a fresh evaluation.

    Differences are root mean squares over the vocabulary and all positions, as a share of the standard
    deviation of the logits.

    Attributes:
        positions: how many tokens were evaluated behind the conversation to compare what follows each.
        agreeing: at how many of them both have the same most probable token.
        difference: from the nearer of two fresh evaluations.
        normal: of these two from one another.
        limit: the largest difference that passes.
        seconds: wall time of it all.
    """

    positions: int
    agreeing: int
    difference: float
    normal: float
    limit: float
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the KV cache is right, as far as logits can tell; numbers that are none are not."""
        return self.difference <= self.limit


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a session file when it was tried.

    Attributes:
        path: of the file, absolute.
        n_bytes: its size.
        n_tokens: length of its token ledger.
        fields: everything that is compared.
        refusal: why ``session_load`` would refuse it, or None.
        logits: whether its KV cache is right; None where that was not asked for, or it is refused.
    """

    path: Path
    n_bytes: int
    n_tokens: int
    fields: tuple[FieldCheck, ...]
    refusal: str | None
    logits: LogitCheck | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be loaded and, where that was looked at, its KV cache is right."""
        return self.refusal is None and (self.logits is None or self.logits.ok)
