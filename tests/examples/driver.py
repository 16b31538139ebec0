"""Hands and eyes for examples/desktop_chat.py."""

from __future__ import annotations

import time
import tkinter as tk
from collections.abc import Callable
from tkinter import ttk
from types import ModuleType

from llama_bridge import Backend, Capability, LlamaBridge, SamplingParams

__all__ = ["Driver"]

GREEDY = SamplingParams(temperature=0, max_tokens=64)


class Driver:
    """Hands and eyes: presses, types, reads, and waits without stopping the window."""

    def __init__(self, example: ModuleType, backend: str | Backend, model: str = "demo") -> None:
        self.root = tk.Tk()
        self.tracebacks: list[BaseException] = []
        self.root.report_callback_exception = lambda _, error, __: self.tracebacks.append(error)
        self.llama = LlamaBridge(backend=backend, sampling=GREEDY)
        self.window = example.ChatWindow(self.root, self.llama, model)

    def until(self, condition: Callable[[], bool], patience: float = 30) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, f"still {self.status!r}:\n{self.text}"
            self.root.update()
            time.sleep(0.002)
        self.root.update()

    def button(self, name: str) -> ttk.Button:
        buttons: list[tuple[ttk.Button, Capability]] = self.window.buttons
        return next(button for button, _ in buttons if button["text"].startswith(name))

    def enabled(self, name: str) -> bool:
        return self.button(name).instate(["!disabled"])

    def press(self, name: str) -> None:
        self.button(name).invoke()

    def press_and_wait(self, name: str) -> None:
        self.press(name)
        self.idle()

    def idle(self) -> None:
        self.until(lambda: not self.window.busy)

    def ask(self, prompt: str) -> None:
        self.window.entry.insert(0, prompt)
        self.press("Send")

    def ask_and_wait(self, prompt: str) -> None:
        self.ask(prompt)
        self.idle()

    def connect(self, address: str) -> None:
        self.window.address.delete(0, "end")
        self.window.address.insert(0, address)
        self.press("Connect")

    def connect_and_wait(self, address: str) -> None:
        self.connect(address)
        self.until(lambda: not self.window.busy, 120)

    def why(self, capability: Capability) -> str:
        """What stands there while the mouse is on the name of a capability."""
        flags: tk.Text = self.window.flags
        self.root.update()
        box = flags.bbox(f"{capability.name}.first")
        assert box is not None, "it cannot be seen"
        flags.event_generate("<Motion>", x=box[0] + 2, y=box[1] + 2)
        self.root.update()
        return str(self.window.why["text"])

    def key(self, name: str) -> None:
        self.window.entry.focus_force()
        self.root.update()
        self.window.entry.event_generate(name)

    @property
    def about(self) -> str:
        return str(self.window.about["text"])

    @property
    def text(self) -> str:
        return str(self.window.paper.get("1.0", "end")).strip()

    @property
    def status(self) -> str:
        return str(self.window.status["text"])

    def close(self) -> None:
        if self.window.worker.is_alive():
            self.root.tk.call(self.root.protocol("WM_DELETE_WINDOW"))
        end = time.monotonic() + 30
        while self.window.worker.is_alive() and time.monotonic() < end:
            self.root.update()
            time.sleep(0.002)
        if self.gone:
            return
        self.until(lambda: self.gone, 5)

    @property
    def gone(self) -> bool:
        try:
            return not self.root.winfo_exists()
        except tk.TclError:
            return True
