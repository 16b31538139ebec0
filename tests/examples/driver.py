"""Hands and eyes for a desktop example, whichever toolkit it is written with."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from llama_bridge import AsyncLlamaBridge, Backend, SamplingParams

__all__ = ["Driver"]

GREEDY = SamplingParams(temperature=0, max_tokens=64)


class Driver(ABC):
    """Presses, types, reads, and lets the window live meanwhile.

    Attributes:
        script: the name of the example.
        tracebacks: errors that nobody caught.
    """

    script: str

    def __init__(self, example: ModuleType, backend: str | Backend, model: str = "demo") -> None:
        self.llama = AsyncLlamaBridge(backend=backend, sampling=GREEDY)
        self.tracebacks: list[BaseException] = []
        self.open(example, model)

    @staticmethod
    @abstractmethod
    def choose(monkeypatch: pytest.MonkeyPatch, pick: Callable[[], str]) -> None:
        """What a person picks in the dialogs of windows that are opened after this."""

    @abstractmethod
    def open(self, example: ModuleType, model: str) -> None:
        """Show the window."""

    @abstractmethod
    def breathe(self) -> None:
        """Let the window live for a moment."""

    @abstractmethod
    def type(self, text: str) -> None:
        """Type into the field for questions."""

    @abstractmethod
    def key(self, name: str) -> None:
        """Press Return, Escape or x."""

    @abstractmethod
    def press(self, name: str) -> None:
        """Press a button, if that is possible."""

    @abstractmethod
    def enabled(self, name: str) -> bool:
        """Whether a button can be pressed."""

    @abstractmethod
    def resize(self, width: int) -> None:
        """Give the window another width, in pixels."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The width of what is said."""

    @abstractmethod
    def scroll_to_top(self) -> None:
        """Read what was said first."""

    @property
    @abstractmethod
    def place(self) -> str:
        """What can be seen: "top", "end", or "between"."""

    @property
    @abstractmethod
    def typed(self) -> str:
        """What stands in the field for questions."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What was said."""

    @property
    @abstractmethod
    def status(self) -> str:
        """What is going on."""

    @property
    @abstractmethod
    def why(self) -> str:
        """Why something is grey."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether something is being done."""

    @abstractmethod
    def close(self) -> None:
        """Close the window, and wait until all has ended. Closing twice does nothing."""

    @abstractmethod
    def picture(self, path: Path) -> None:
        """Take a picture of the window."""

    def until(self, condition: Callable[[], bool], patience: float = 60) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, f"still {self.status!r}:\n{self.text}"
            self.breathe()

    def idle(self) -> None:
        self.until(lambda: not self.busy)

    def press_and_wait(self, name: str) -> None:
        self.press(name)
        self.idle()

    def ask(self, prompt: str) -> None:
        self.type(prompt)
        self.press("Send")

    def ask_and_wait(self, prompt: str) -> None:
        self.ask(prompt)
        self.idle()
