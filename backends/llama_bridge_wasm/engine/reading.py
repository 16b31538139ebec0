"""Reports progress while a guest reads a model's file."""

from __future__ import annotations

from llama_bridge.later_signals import signals_at_once
from llama_bridge.progress import OnProgress, Progress

__all__ = ["Reading"]


class Reading:
    """The stage ``"load"``: :meth:`begin`, then :meth:`add` for what is read, then :meth:`finish`.

    Args:
        size: of the file.
        on_progress: called at most once per percent; or None.

    Attributes:
        failure: what ``on_progress`` raised while the guest read. It ends the load: for the guest, the file can
            no longer be read.
    """

    def __init__(self, size: int, on_progress: OnProgress | None) -> None:
        self.failure: BaseException | None = None
        self._size = size
        self._on_progress = on_progress
        self._read = 0
        self._next = 1

    def begin(self) -> None:
        """Report that nothing is read yet."""
        self._tell(0)

    def add(self, size: int) -> None:
        """Report that many more bytes. Some are read twice, so this never reports all: :meth:`finish` does.

        Raises:
            OSError: ``on_progress`` raised. It is called from inside the guest, where its own exception could be
                mistaken for another: a BadPointer, for example, for one of the guest's.
        """
        self._read = min(self._read + size, self._size - 1)
        if self.failure is None and self._read >= self._next:
            self._next = self._read + max(1, self._size // 100)
            try:
                self._tell(self._read)
            except BaseException as error:
                self.failure = error
        if self.failure is not None:
            raise OSError("on_progress ended the load")

    def finish(self) -> None:
        """Report that the model is loaded."""
        self._tell(self._size)

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            with signals_at_once():
                self._on_progress(Progress("load", done, self._size, "bytes"))
