"""Shows an answer while it is generated, and the progress of what takes long: in a notebook or on a terminal."""

from __future__ import annotations

import importlib
import re
import sys
import threading
import time
from typing import Any, Protocol

from .markup import escape, grey, prose
from .progress import Progress

__all__ = ["LiveText", "ProgressBar", "in_notebook"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STAGES = {
    "download": "downloading",
    "verify": "checking the file",
    "compile": "compiling llama.wasm",
    "load": "loading",
    "prefill": "reading the prompt",
}
_UPDATES = 0.08
"""Seconds between two updates of what a notebook shows."""

_SHORT = 0.3
"""What takes less, in seconds, gets no bar."""


def in_notebook() -> bool:
    """Whether output goes to a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"


class _Cell:
    """A place in a notebook's output that can be changed."""

    def __init__(self, text: str) -> None:
        self._display: Any = importlib.import_module("IPython.display")  # a notebook has it
        self._handle: Any = self._display.display(self._display.HTML(text), display_id=True)
        self._shown = time.monotonic()

    def show(self, text: str, *, now: bool = False) -> None:
        """Show something else, if it is time for that."""
        if now or time.monotonic() - self._shown > _UPDATES:
            self._handle.update(self._display.HTML(text))
            self._shown = time.monotonic()


class LiveText:
    """Shows a text that grows: in a notebook in one place, elsewhere on standard output."""

    def __init__(self) -> None:
        self._text = ""
        self._cell = _Cell("") if in_notebook() else None
        self._terminal = sys.stdout is not None and sys.stdout.isatty()

    def add(self, item: object) -> None:
        """Show a text, or the words of a chat's event. On a terminal their control characters are left out."""
        text = _spoken(item)
        self._text += text
        if self._cell is not None:
            self._cell.show(prose(self._text))
        elif sys.stdout is not None:
            sys.stdout.write(_CONTROL.sub("", text) if self._terminal else text)
            sys.stdout.flush()

    def end(self, result: object = None) -> None:
        """Show the end: in a notebook the result, which has its own form."""
        if self._cell is not None:
            form = getattr(result, "_repr_html_", None)
            self._cell.show(form() if form else prose(self._text), now=True)
        elif sys.stdout is not None and self._text and not self._text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()


def _spoken(item: object) -> str:
    """What an item of a stream says aloud: no thoughts, no calls of tools."""
    if isinstance(item, str):
        return item
    return "" if getattr(item, "is_thought", False) else str(getattr(item, "text", ""))


class ProgressBar:
    """Shows the progress of loads and long prompts: ``LlamaBridge(path, on_progress=ProgressBar())``.

    In a notebook it is a bar below the cell. On a terminal rich draws it, or tqdm, whichever is installed; without them it
    is a line of text. What takes less than 0.3 s is not shown. Elsewhere, in a pipe say, nothing is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage = ""
        self._begun = 0.0
        self._bar: _Bar | None = None

    def __call__(self, step: Progress) -> None:
        """Show how far it is. Works from any thread."""
        with self._lock:
            if step.stage != self._stage or step.done == 0:
                self._end()
                self._stage, self._begun = step.stage, time.monotonic()
            if self._bar is None and time.monotonic() - self._begun > _SHORT:
                self._bar = _bar(step)
            if self._bar is not None:
                self._bar.show(step)
            if step.done >= step.total:
                self._end()

    def _end(self) -> None:
        bar, self._bar, self._stage = self._bar, None, ""
        if bar is not None:
            bar.end()


class _Bar(Protocol):
    def show(self, step: Progress) -> None: ...

    def end(self) -> None: ...


def _bar(step: Progress) -> _Bar | None:
    """What can show it here; None if nobody sees it."""
    if in_notebook():
        return _NotebookBar()
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    for kind in (_RichBar, _TqdmBar):
        try:
            return kind(step)
        except ImportError:
            continue
    return _PlainBar()


def _words(step: Progress) -> str:
    return f"{_STAGES.get(step.stage, step.stage)}: {step.done / max(1, step.total):.0%}"


class _NotebookBar:
    def __init__(self) -> None:
        self._cell = _Cell("")

    def show(self, step: Progress) -> None:
        name = escape(_words(step))
        bar = f'<progress value="{step.done}" max="{max(1, step.total)}"></progress>'
        self._cell.show(f"{bar} {name}", now=step.done >= step.total)

    def end(self) -> None:
        self._cell.show(grey(""), now=True)


class _RichBar:
    def __init__(self, step: Progress) -> None:
        rich: Any = importlib.import_module("rich.progress")  # an extra
        console: Any = importlib.import_module("rich.console").Console(stderr=True)
        self._progress: Any = rich.Progress(console=console, transient=True)
        self._task: Any = self._progress.add_task(_STAGES.get(step.stage, step.stage))
        self._progress.start()

    def show(self, step: Progress) -> None:
        self._progress.update(self._task, completed=step.done, total=max(1, step.total))

    def end(self) -> None:
        self._progress.stop()


class _TqdmBar:
    def __init__(self, step: Progress) -> None:
        tqdm: Any = importlib.import_module("tqdm")  # an extra
        self._bar: Any = tqdm.tqdm(
            total=step.total,
            desc=_STAGES.get(step.stage, step.stage),
            unit="B" if step.unit == "bytes" else " tokens",
            unit_scale=True,
            leave=False,
        )

    def show(self, step: Progress) -> None:
        self._bar.update(step.done - self._bar.n)

    def end(self) -> None:
        self._bar.close()


class _PlainBar:
    def show(self, step: Progress) -> None:
        sys.stderr.write(f"\r{_words(step)}")
        sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\r" + " " * 40 + "\r")
        sys.stderr.flush()
