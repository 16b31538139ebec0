"""Hands and eyes for examples/desktop_chat.py. The test's thread runs its event loop, a moment at a time."""

from __future__ import annotations

import asyncio
import os
import tkinter as tk
from collections.abc import Callable
from pathlib import Path
from tkinter import filedialog, ttk
from types import ModuleType
from typing import Any

import pytest

from .driver import Driver

__all__ = ["TkDriver"]


class TkDriver(Driver):
    script = "desktop_chat"

    @staticmethod
    def choose(monkeypatch: pytest.MonkeyPatch, pick: Callable[[], str]) -> None:
        monkeypatch.setattr(filedialog, "asksaveasfilename", pick)
        monkeypatch.setattr(filedialog, "askopenfilename", pick)

    def open(self, example: ModuleType, model: str) -> None:
        self.root = tk.Tk()
        self.root.report_callback_exception = lambda _, error, __: self.tracebacks.append(error)
        self.loop = asyncio.new_event_loop()
        self.window, self.running = self.loop.run_until_complete(self._open(example, model))

    async def _open(self, example: ModuleType, model: str) -> tuple[Any, asyncio.Task[None]]:
        window = example.ChatWindow(self.root, self.llama, model)
        return window, asyncio.create_task(window.run())

    def breathe(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0.01))

    def type(self, text: str) -> None:
        self.window.entry.insert("end", text)

    def key(self, name: str) -> None:
        self.window.entry.focus_force()
        self.root.update()
        self._inside(lambda: self.window.entry.event_generate(f"<Key-{name}>"))
        self.breathe()

    def _inside(self, act: Callable[[], object]) -> None:
        """Do it where the event loop runs, as Tk does."""

        async def do() -> None:
            act()

        self.loop.run_until_complete(do())

    def _button(self, name: str) -> ttk.Button:
        buttons: list[ttk.Button] = list(self.window.buttons)
        return next(button for button in buttons if button["text"] == name)

    def press(self, name: str) -> None:
        self._inside(self._button(name).invoke)

    def enabled(self, name: str) -> bool:
        return self._button(name).instate(["!disabled"])

    def resize(self, width: int) -> None:
        self.root.geometry(f"{width}x400")

    @property
    def width(self) -> int:
        return int(self.window.paper.winfo_width())

    def scroll_to_top(self) -> None:
        self.window.paper.yview_moveto(0)

    @property
    def place(self) -> str:
        first, last = self.window.paper.yview()
        return "end" if last == 1.0 else "top" if first == 0.0 else "between"

    @property
    def typed(self) -> str:
        return str(self.window.entry.get())

    @property
    def text(self) -> str:
        return str(self.window.paper.get("1.0", "end")).strip()

    @property
    def status(self) -> str:
        return str(self.window.status["text"])

    @property
    def why(self) -> str:
        return str(self.window.why["text"])

    @property
    def busy(self) -> bool:
        return not self.window.task.done()

    def close(self) -> None:
        if self.loop.is_closed():
            return
        self.root.tk.call(self.root.protocol("WM_DELETE_WINDOW"))
        self.loop.run_until_complete(asyncio.wait_for(self.running, 60))
        self.loop.close()

    def picture(self, path: Path) -> None:
        image_grab = pytest.importorskip("PIL.ImageGrab", reason="no Pillow: pip install pillow")
        root = self.root
        root.lift()
        root.update()
        left, top = root.winfo_rootx(), root.winfo_rooty()
        box = (left, top, left + root.winfo_width(), top + root.winfo_height())
        image_grab.grab(bbox=box, xdisplay=os.environ.get("DISPLAY")).save(path)
