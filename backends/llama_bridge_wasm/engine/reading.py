"""How far a guest has come with a model's file, told while it reads."""

from __future__ import annotations

from llama_bridge.progress import OnProgress, Progress

__all__ = ["Reading"]


class Reading:
    """The stage ``"load"``: :meth:`begin`, :meth:`add` for what is read, :meth:`finish` when the model is there.

    Args:
        size: of the file.
        on_progress: told at each percent at most, or None.

    Attributes:
        failure: what ``on_progress`` raised while the guest read. It ends the load: the guest sees a file that
            cannot be read any more.
    """

    def __init__(self, size: int, on_progress: OnProgress | None) -> None:
        self.failure: BaseException | None = None
        self._size = size
        self._on_progress = on_progress
        self._read = 0
        self._next = 1

    def begin(self) -> None:
        """Nothing is read yet."""
        self._tell(0)

    def add(self, size: int) -> None:
        """So many more bytes are read. Some are read twice, and all is done only when the model is there.

        Raises:
            OSError: ``on_progress`` has raised something. It is called from within the guest, where it could be
                taken for something else: a BadPointer, say, for one of the guest's.
        """
        self._read = min(self._read + size, self._size - 1)
        if self.failure is None and self._read >= self._next:
            self._next = self._read + max(1, self._size // 100)
            try:
                self._tell(self._read)
            except BaseException as error:
                self.failure = error
        if self.failure is not None:
            raise OSError("on_progress has ended the load")

    def finish(self) -> None:
        """The model is there."""
        self._tell(self._size)

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress("load", done, self._size, "bytes"))
