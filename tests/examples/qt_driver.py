"""Hands and eyes for examples/desktop_qt.py."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .driver import Driver

__all__ = ["QtDriver"]


class QtDriver(Driver):
    script = "desktop_qt"

    @staticmethod
    def _qt(part: str) -> Any:
        return importlib.import_module(f"PySide6.Qt{part}")  # only `make desktop` has it

    @classmethod
    def choose(cls, monkeypatch: pytest.MonkeyPatch, pick: Callable[[], str]) -> None:
        for name in ("getOpenFileName", "getSaveFileName"):
            monkeypatch.setattr(cls._qt("Widgets").QFileDialog, name, lambda _: (pick(), ""))

    def open(self, example: ModuleType, model: str) -> None:
        application = self._qt("Widgets").QApplication
        self.application: Any = application.instance() or application(["test"])
        self.window: Any = example.ChatWindow(self.llama, model)
        self.window.show()
        self.window.activateWindow()
        self.window.entry.setFocus()

    def breathe(self) -> None:
        self.application.processEvents()
        time.sleep(0.005)
        self.application.processEvents()

    def type(self, text: str) -> None:
        self.window.entry.insert(text)

    def key(self, name: str) -> None:
        keys = self._qt("Core").Qt.Key
        key = {"Return": keys.Key_Return, "Escape": keys.Key_Escape, "x": keys.Key_X}[name]
        self._qt("Test").QTest.keyClick(self.window.entry, key)
        self.breathe()

    def _button(self, name: str) -> Any:
        return next(button for button in self.window.buttons if button.text() == name)

    def press(self, name: str) -> None:
        self._button(name).click()

    def enabled(self, name: str) -> bool:
        return bool(self._button(name).isEnabled())

    def resize(self, width: int) -> None:
        self.window.resize(width, 400)

    @property
    def width(self) -> int:
        return int(self.window.paper.width())

    def scroll_to_top(self) -> None:
        self.window.paper.verticalScrollBar().setValue(0)

    @property
    def place(self) -> str:
        bar = self.window.paper.verticalScrollBar()
        return "end" if bar.value() == bar.maximum() else "between" if bar.value() else "top"

    @property
    def typed(self) -> str:
        return str(self.window.entry.text())

    @property
    def text(self) -> str:
        return str(self.window.paper.toPlainText()).strip()

    @property
    def status(self) -> str:
        return str(self.window.status.text())

    @property
    def why(self) -> str:
        return str(self.window.why.text())

    @property
    def busy(self) -> bool:
        return bool(self.window.busy)

    def close(self) -> None:
        if self.window.talk.thread.is_alive():
            self.window.close()
            self.breathe()

    def picture(self, path: Path) -> None:
        self.breathe()
        assert self.window.grab().save(str(path))
