"""A chat window of Tk that never freezes: python examples/desktop_chat.py [MODEL or http://SERVER]"""

from __future__ import annotations

import asyncio
import sys
import tkinter as tk
from collections.abc import Callable, Coroutine
from tkinter import filedialog, ttk
from typing import Any

from llama_bridge import AsyncLlamaBridge, Capability, Message, TextDelta, UnsupportedCapability

FILES = Capability.SESSION_PERSISTENCE


class ChatWindow:
    """A window for a bridge that has no model yet; ``run`` shows it until it is closed."""

    def __init__(self, root: tk.Tk, llama: AsyncLlamaBridge, model: str) -> None:
        self.root, self.llama, self.able = root, llama, Capability(0)
        self.said: list[Message] = []  # such a list is a conversation on every backend
        self.stream: Any = None  # the answer that is being written
        self.build()
        self.start("Loading the model…", self.load(model))

    async def run(self) -> None:
        while self.root.state() != "withdrawn":
            self.root.update()  # all this is in one thread; the bridge computes in others
            await asyncio.sleep(0.01)
        self.task.cancel()  # ends an answer; a file is written whole
        await asyncio.wait([self.task])
        await self.llama.close()
        self.root.destroy()

    def start(self, status: str, job: Coroutine[Any, Any, str]) -> None:
        """Do one thing. Whoever wants another waits: all buttons but Stop are grey."""
        self.show(status, busy=True)
        self.task = asyncio.create_task(self.finish(job))

    async def finish(self, job: Coroutine[Any, Any, str]) -> None:
        try:
            self.show(await job)
        except Exception as error:  # its text says what was wrong and what to do
            self.write(" ".join(str(error).split()) or type(error).__name__, "Error")
            self.show("That did not work")

    async def load(self, model: str) -> str:
        await self.llama.load_model(model)
        self.able = self.llama.capabilities
        try:
            self.llama.requires(FILES)
        except UnsupportedCapability as error:
            self.why["text"] = f"No Open, no Save: {error}"
        return self.llama.where or f"{self.llama.model.name} on the {self.llama.backend} backend"

    async def answer(self) -> str:
        text = ""
        try:
            async for event in self.stream:
                if isinstance(event, TextDelta):  # others tell what the model thinks
                    text += event.text
                    self.write(event.text)
            reply = await self.stream.result()
        finally:  # also of an answer that was stopped, or broke off
            if text:
                self.said.append(Message(role="assistant", content=text))
            else:
                self.entry.insert(0, self.said.pop()["content"])
        return f"Done ({reply.finish_reason}): {reply.usage.cached_tokens} tokens from the KV cache"

    async def save(self, path: str) -> str:
        info = await self.llama.session_save(path)  # the bridge's session is the last chat
        return f"Saved {info.n_tokens} tokens to {info.path.name}"

    async def open(self, path: str) -> str:
        info = await self.llama.session_load(path)
        self.said = self.llama.session().messages
        self.paper["state"] = "normal"
        self.paper.delete("1.0", "end")
        for message in self.said:
            self.write(message["content"], "You" if message["role"] == "user" else "Model")
        return f"Opened {info.n_tokens} tokens from {info.path.name}"

    def send(self) -> None:
        prompt = self.entry.get().strip()
        if prompt and self.task.done():
            self.entry.delete(0, "end")
            self.write(prompt, "You")
            self.write("", "Model")
            self.said.append(Message(role="user", content=prompt))
            self.stream = self.llama.chat_stream(self.said)  # begins when it is read
            self.start("Answering…  Esc stops", self.answer())

    def stop(self) -> None:
        if self.stream:
            self.stream.cancel()

    def ask(self, dialog: Callable[[], str], job: Callable[[str], Any]) -> None:
        if path := dialog():
            self.start("One moment…", job(path))

    def show(self, status: str, *, busy: bool = False) -> None:
        self.status["text"] = status
        for button, needs in self.buttons.items():
            usable = needs in self.able and busy == (needs is Capability.CANCEL)
            button["state"] = "normal" if usable else "disabled"

    def write(self, text: str, who: str = "") -> None:
        follow = self.paper.yview()[1] > 0.999  # whoever reads further up is left in peace
        self.paper["state"] = "normal"
        self.paper.insert("end", f"\n{who}\n" * bool(who), "who", text)
        self.paper["state"] = "disabled"
        self.paper.see("end" if follow else "@0,0")

    def build(self) -> None:
        line = ttk.Frame(self.root, padding=8)
        self.why, self.status = (ttk.Label(self.root, padding=8, wraplength=600) for _ in "ab")
        self.paper = tk.Text(self.root, wrap="word", padx=14, relief="flat", font="TkTextFont")
        self.paper.tag_configure("who", font="TkHeadingFont", foreground="#0a5bb5")
        self.entry = ttk.Entry(line, font="TkTextFont")
        self.why.pack(fill="x")
        ttk.Style().theme_use("clam")
        self.status.pack(side="bottom", fill="x")
        line.pack(side="bottom", fill="x")
        self.paper.pack(fill="both", expand=True)
        self.entry.pack(side="left", fill="x", expand=True, ipady=4)
        opener, saver = filedialog.askopenfilename, filedialog.asksaveasfilename
        self.buttons = {
            ttk.Button(line, text="Send", command=self.send): Capability.GENERATE,
            ttk.Button(line, text="Stop", command=self.stop): Capability.CANCEL,
            ttk.Button(line, text="Open", command=lambda: self.ask(opener, self.open)): FILES,
            ttk.Button(line, text="Save", command=lambda: self.ask(saver, self.save)): FILES,
        }
        for button in self.buttons:
            button.pack(side="left", padx=(4, 0))
        self.entry.bind("<Return>", lambda _: self.send())
        self.root.bind("<Escape>", lambda _: self.stop())
        self.root.protocol("WM_DELETE_WINDOW", self.root.withdraw)


async def main(model: str = "demo") -> None:
    llama = AsyncLlamaBridge(backend="remote" if "://" in model else "auto")
    await ChatWindow(tk.Tk(), llama, model).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
