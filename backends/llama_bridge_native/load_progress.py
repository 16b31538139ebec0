"""Reports progress while llama.cpp reads a model."""

from __future__ import annotations

from typing import Any

from llama_bridge.later_signals import signals_at_once
from llama_bridge.progress import OnProgress, Progress

from .library import lib

__all__ = ["LoadProgress"]


class LoadProgress:
    """Passes llama.cpp's progress on, and keeps what the callback raises.

    Args:
        on_progress: the callback, or None.
        total: bytes of the file; llama.cpp reports a fraction of it.

    Attributes:
        callback: for ``llama_model_params``; this object keeps it alive.
    """

    def __init__(self, on_progress: OnProgress | None, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._told = -1
        self._failure: BaseException | None = None
        kind: Any = lib.llama_progress_callback
        self.callback: Any = kind() if on_progress is None else kind(self._hear)

    def _hear(self, share: float, _: object) -> bool:
        """Called for each tensor; False makes llama.cpp stop."""
        assert self._on_progress is not None
        done = min(self._total, round(share * self._total))
        if done <= self._told:
            return True
        self._told = done
        try:
            with signals_at_once():
                self._on_progress(Progress("load", done, self._total, "bytes"))
        except BaseException as error:  # ctypes would print it and go on
            self._failure = error
            return False
        return True

    def reraise(self) -> None:
        """After the load: raise what the callback raised."""
        self.callback = None
        if self._failure is not None:
            raise self._failure
