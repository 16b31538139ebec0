"""A chat window of Qt that never freezes: python examples/desktop_qt.py [MODEL or http://SERVER]

It needs PySide6. Qt has the main thread, asyncio another, and the bridge computes in its own. The window hears of them by signals.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from llama_bridge import AsyncLlamaBridge, BridgeError, Capability, Message, Progress, TextDelta

FILES = Capability.SESSION_PERSISTENCE


class Talk(QtCore.QObject):
    """One conversation with a model, in a thread of its own. Calls do not wait; signals tell what happens."""

    text = QtCore.Signal(str)  # a piece of the answer
    told = QtCore.Signal(str)  # the status, while something is done
    lacking = QtCore.Signal(str)  # why something is grey
    opened = QtCore.Signal(object)  # the messages of a file
    unanswered = QtCore.Signal(str)  # a question that can be sent again
    ended = QtCore.Signal(object)  # a Future: the last status, or an error

    def __init__(self, llama: AsyncLlamaBridge) -> None:
        super().__init__()
        self.llama = llama
        self.said: list[Message] = []  # such a list is a conversation on every backend
        self.stream: Any = None  # the answer that is being written
        self.work: Future[str] = Future()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def start(self, job: Coroutine[Any, Any, str]) -> None:
        """Do one thing; another only when that has ended."""
        self.work = asyncio.run_coroutine_threadsafe(job, self.loop)
        self.work.add_done_callback(self.ended.emit)

    def ask(self, prompt: str) -> None:
        self.said.append(Message(role="user", content=prompt))
        self.stream = self.llama.chat_stream(self.said, on_progress=self.progress)
        self.start(self.answer())

    def stop(self) -> None:
        if self.stream:
            self.stream.cancel()

    def close(self) -> None:
        """End whatever is done, and leave nothing behind. This one waits."""
        self.work.cancel()  # ends an answer; a file is written whole
        asyncio.run_coroutine_threadsafe(self.llama.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def progress(self, step: Progress) -> None:
        self.told.emit(f"{step.stage.title()}… {step.done / max(1, step.total):.0%}")

    async def load(self, model: str) -> str:
        await self.llama.load_model(model, on_progress=self.progress)
        try:
            self.llama.requires(FILES)
        except BridgeError as error:
            self.lacking.emit(f"No Open, no Save: {error}")
        return self.llama.where or f"{self.llama.model.name} on the {self.llama.backend} backend"

    async def answer(self) -> str:
        text = ""
        try:
            async for event in self.stream:
                if isinstance(event, TextDelta):  # others tell what the model thinks
                    text += event.text
                    self.text.emit(event.text)
            end = await self.stream.result()
        finally:  # also of an answer that was stopped, or broke off
            if text:
                self.said.append(Message(role="assistant", content=text))
            else:
                self.unanswered.emit(self.said.pop()["content"])
        return f"Done ({end.finish_reason}): {end.usage.cached_tokens} tokens from the KV cache"

    async def save(self, path: str) -> str:
        info = await self.llama.session_save(path)  # the bridge's session is the last chat
        return f"Saved {info.n_tokens} tokens to {info.path.name}"

    async def open(self, path: str) -> str:
        info = await self.llama.session_load(path)
        self.said = self.llama.session().messages
        self.opened.emit(self.said)
        return f"Opened {info.n_tokens} tokens from {info.path.name}"


class ChatWindow(QtWidgets.QWidget):
    """A window for a bridge that has no model yet."""

    def __init__(self, llama: AsyncLlamaBridge, model: str) -> None:
        super().__init__()
        self.talk, self.able, self.busy = Talk(llama), Capability(0), True
        self.build()
        self.talk.text.connect(self.write)
        self.talk.told.connect(self.status.setText)
        self.talk.lacking.connect(self.why.setText)
        self.talk.opened.connect(self.redraw)
        self.talk.unanswered.connect(self.entry.insert)
        self.talk.ended.connect(self.finish)
        self.show_state("Loading the model…", busy=True)
        self.talk.start(self.talk.load(model))

    def finish(self, work: Future[str]) -> None:
        try:
            status = work.result()
            self.able = self.talk.llama.capabilities
        except Exception as error:  # its text says what was wrong and what to do
            self.write(" ".join(str(error).split()) or type(error).__name__, "Error")
            status = "That did not work"
        self.show_state(status)

    def send(self) -> None:
        prompt = self.entry.text().strip()
        if prompt and not self.busy:
            self.entry.clear()
            self.write(prompt, "You")
            self.write("", "Model")
            self.show_state("Answering…  Esc stops", busy=True)
            self.talk.ask(prompt)

    def ask(self, dialog: Callable[..., tuple[str, str]], job: Callable[[str], Any]) -> None:
        if path := dialog(self)[0]:
            self.show_state("One moment…", busy=True)
            self.talk.start(job(path))

    def show_state(self, status: str, *, busy: bool = False) -> None:
        self.busy = busy
        self.status.setText(status)
        for button, needs in self.buttons.items():
            button.setEnabled(needs in self.able and busy == (needs is Capability.CANCEL))

    def redraw(self, messages: list[Message]) -> None:
        self.paper.clear()
        for message in messages:
            self.write(message["content"], "You" if message["role"] == "user" else "Model")

    def write(self, text: str, who: str = "") -> None:
        bar, cursor = self.paper.verticalScrollBar(), QtGui.QTextCursor(self.paper.document())
        follow = bar.value() == bar.maximum()  # whoever reads further up is left in peace
        cursor.movePosition(QtGui.QTextCursor.MoveOperation.End)
        if who:
            cursor.insertText(f"\n{who}\n", self.name)
        cursor.insertText(text, QtGui.QTextCharFormat())
        bar.setValue(bar.maximum() if follow else bar.value())

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: N802 -- Qt's name
        self.hide()
        self.talk.close()

    def build(self) -> None:
        self.resize(720, 560)
        self.paper, self.entry = QtWidgets.QPlainTextEdit(readOnly=True), QtWidgets.QLineEdit(self)
        self.why, self.status = QtWidgets.QLabel(wordWrap=True), QtWidgets.QLabel()
        self.name = QtGui.QTextCharFormat()
        self.name.setFontWeight(QtGui.QFont.Weight.Bold)
        opener, saver = QtWidgets.QFileDialog.getOpenFileName, QtWidgets.QFileDialog.getSaveFileName
        line, page = QtWidgets.QHBoxLayout(), QtWidgets.QVBoxLayout(self)
        line.addWidget(self.entry)
        self.buttons: dict[QtWidgets.QPushButton, Capability] = {}
        for name, needs, command in (
            ("Send", Capability.GENERATE, self.send),
            ("Stop", Capability.CANCEL, self.talk.stop),
            ("Open", FILES, partial(self.ask, opener, self.talk.open)),
            ("Save", FILES, partial(self.ask, saver, self.talk.save)),
        ):
            button = QtWidgets.QPushButton(name, autoDefault=False)
            button.clicked.connect(lambda _=False, command=command: command())
            line.addWidget(button)
            self.buttons[button] = needs
        for part in (self.why, self.paper, line, self.status):
            page.addLayout(part) if part is line else page.addWidget(part)
        self.entry.returnPressed.connect(self.send)
        QtGui.QShortcut("Esc", self, self.talk.stop)


def main(model: str = "demo") -> None:
    application = QtWidgets.QApplication(sys.argv[:1])
    window = ChatWindow(AsyncLlamaBridge(backend="remote" if "://" in model else "auto"), model)
    window.show()
    sys.exit(application.exec())


if __name__ == "__main__":
    main(*sys.argv[1:])
