"""Tells of several files that are fetched or verified one after another as of one."""

from __future__ import annotations

from dataclasses import replace

from ..progress import OnProgress, Progress

__all__ = ["OfAll"]


class OfAll:
    """The progress of all parts of a model.

    Args:
        on_progress: is told.
        total: bytes of all, or 0 if nobody knows yet.
    """

    def __init__(self, on_progress: OnProgress | None, total: int = 0) -> None:
        self._on_progress = on_progress
        self._total = total
        self._before = self._size = 0

    def next(self, size: int | None = None) -> OnProgress | None:
        """What is told of the next file.

        Args:
            size: its bytes; None if they become known while it arrives.
        """
        if self._on_progress is None:
            return None
        self._before += self._size
        self._size = size or 0
        return self._tell

    def _tell(self, step: Progress) -> None:
        assert self._on_progress is not None
        self._size = max(self._size, step.done)
        done = self._before + step.done
        total = max(self._total, self._before + step.total)
        self._on_progress(replace(step, done=done, total=total))
