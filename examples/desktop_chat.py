"""A chat window that never freezes: python examples/desktop_chat.py [MODEL] [--backend native|wasm]

A worker thread does everything slow: it takes jobs, and sends events that the window runs.
"""

from __future__ import annotations

import argparse
import threading
import tkinter as tk
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from tkinter import filedialog, ttk

from llama_bridge import Capability, LlamaBridge, Message, Progress, TextDelta

GENERATE, FILES, CANCEL = Capability.GENERATE, Capability.SESSION_PERSISTENCE, Capability.CANCEL
SESSIONS, TEMPLATE, ANYTIME = Capability.KV_CONTINUATION, Capability.CHAT_TEMPLATE, Capability(0)
NO_FILES = "\nnothing can be saved or opened: it lacks session_persistence"
ANSWERING, USE_MODEL = "Answering…  Esc stops", "To load a model, use Model…"
DESK, DIM, LINE, QUIET = "#f3f4f6", "#a3a9b2", "#c9ced6", "#5c6570"
COLOURS = {"You": "#0a5bb5", "Model": "#1a7f4b", "Error": "#b3261e"}


class ChatWindow:
    """A window for a bridge that has no model yet; it loads ``model`` once it is open."""

    def __init__(self, root: tk.Tk, llama: LlamaBridge, model: str) -> None:
        self.root, self.llama, self.able = root, llama, Capability(0)
        self.said: Sequence[Message] = []  # for a backend without sessions
        self.jobs: SimpleQueue[Callable[[], str] | None] = SimpleQueue()
        self.events: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.stopping = threading.Event()
        self.worker = threading.Thread(target=self.work, daemon=True)
        self.worker.start()
        self.build()
        self.submit("Loading the model…", partial(self.load, model))
        self.poll()

    def work(self) -> None:
        """The worker: does one job after another; errors are shown in the window."""
        while job := self.jobs.get():
            try:
                self.events.put(partial(self.show, job()))
            except Exception as error:
                self.events.put(partial(self.failed, error))
        self.llama.close()

    def load(self, model: str) -> str:
        self.llama.load_model(model, on_progress=self.progress)
        self.able = self.llama.capabilities
        about = f"{self.llama.model.name} on the {self.llama.backend} backend"
        lacks = NO_FILES * (FILES not in self.able)
        self.events.put(partial(self.about.configure, text=about + lacks))
        self.events.put(partial(self.redraw, self.llama.session().messages))
        return "Ready"

    def answer(self, prompt: str) -> str:
        llama, asked = self.llama, [*self.said, Message(role="user", content=prompt)]
        if TEMPLATE in self.able and SESSIONS not in self.able:
            stream = llama.chat_stream(asked, on_progress=self.progress)
        else:
            stream = llama.generate_continue_stream(prompt, on_progress=self.progress)
        if self.stopping.is_set():  # pressed before there was anything to cancel
            llama.cancel()
        for delta in stream:  # texts of a session; of a chat also what the model thinks
            text = delta.text if isinstance(delta, TextDelta) else delta
            if isinstance(text, str):
                self.events.put(partial(self.write, text))
        end, usage = stream.result, stream.result.usage
        if end.text:
            self.said = [*asked, Message(role="assistant", content=end.text)]
        read = f"{usage.cached_tokens} cached + {usage.evaluated_tokens} evaluated tokens"
        speed = f"{usage.completion_tokens} new at {usage.tokens_per_second:,.0f} tokens/s"
        return f"Done ({end.finish_reason}): {read}, {speed}"

    def progress(self, step: Progress) -> None:
        read = step.stage == "prefill" and step.done == step.total
        status = f"{step.stage.title()}… {step.done / max(1, step.total):.0%}"
        self.events.put(partial(self.show, ANSWERING if read else status, busy=True))

    def reset(self) -> str:
        self.llama.session_reset()
        self.events.put(partial(self.redraw, self.llama.session().messages))
        return "A new conversation"

    def save(self, path: str) -> str:
        info = self.llama.session_save(path)
        return f"Saved {info.n_tokens} tokens, {info.n_bytes:,} bytes, to {info.path.name}"

    def open(self, path: str) -> str:
        info = self.llama.session_load(path)
        self.events.put(partial(self.redraw, self.llama.session().messages))
        return f"Opened {info.n_tokens} tokens from {info.path.name}"

    def poll(self) -> None:
        """The window: runs the worker's events, and closes only after the worker has ended."""
        for _ in range(self.events.qsize()):
            self.events.get()()
        if self.root.state() != "withdrawn" or self.worker.is_alive():
            self.root.after(15, self.poll)
        else:
            self.root.destroy()

    def submit(self, status: str, job: Callable[[], str]) -> None:
        self.stopping.clear()
        self.show(status, busy=True)
        self.jobs.put(job)

    def send(self) -> None:
        prompt = self.entry.get().strip()
        if prompt and GENERATE in self.able and not self.busy:
            self.entry.delete(0, "end")
            self.write_turn("You", prompt)
            self.write_turn("Model", "")
            self.submit(ANSWERING, partial(self.answer, prompt))

    def stop(self) -> None:
        self.stopping.set()
        self.llama.cancel()

    def ask(self, dialog: Callable[[], str], job: Callable[[str], str]) -> None:
        if path := dialog():
            self.submit("One moment…", partial(job, path))

    def failed(self, error: Exception) -> None:
        self.write_turn("Error", f"{type(error).__name__}: {error}")
        is_model = getattr(error, "found", "") == "gguf"
        self.show(USE_MODEL if is_model or not self.able else "That did not work")

    def show(self, status: str, *, busy: bool = False) -> None:
        self.busy, self.status["text"] = busy, status
        for button, needs in self.buttons:
            usable = needs in self.able and busy == (needs is CANCEL)
            button["state"] = "normal" if usable else "disabled"

    def redraw(self, messages: Sequence[Message]) -> None:
        self.said = messages
        self.paper["state"] = "normal"
        self.paper.delete("1.0", "end")
        for message in messages:
            self.write_turn("You" if message["role"] == "user" else "Model", message["content"])

    def write_turn(self, who: str, text: str) -> None:
        self.write("\n" * (self.paper.index("end-1c") != "1.0") + f"{who}\n", who)
        self.write(text)

    def write(self, text: str, tag: str = "") -> None:
        follow = self.paper.yview()[1] > 0.999  # do not scroll for a user who is reading further up
        self.paper["state"] = "normal"
        self.paper.insert("end", text, tag)
        self.paper["state"] = "disabled"
        if follow:
            self.paper.see("end")

    def close(self) -> None:
        self.root.withdraw()
        self.stop()
        self.jobs.put(None)

    def build(self) -> None:
        root, style = self.root, ttk.Style()
        style.theme_use("clam")
        style.configure(".", background=DESK, bordercolor=LINE, troughcolor=DESK)
        style.map("TButton", background=[("disabled", DESK)], foreground=[("disabled", DIM)])
        for font in ("TkDefaultFont", "TkTextFont", "TkHeadingFont"):
            root.tk.call("font", "configure", font, "-size", 11)
        root.title("llama-bridge")
        root.geometry("720x520")
        root.minsize(600, 360)
        root.configure(background=DESK, padx=12, pady=12)
        bar, line, scroll = ttk.Frame(root), ttk.Frame(root), ttk.Scrollbar(root)
        self.about, self.status = (ttk.Label(root, foreground=QUIET) for _ in range(2))
        self.paper = tk.Text(root, wrap="word", font="TkTextFont", relief="flat", padx=14, pady=8)
        self.paper["yscrollcommand"], scroll["command"] = scroll.set, self.paper.yview
        for who, colour in COLOURS.items():
            self.paper.tag_configure(who, foreground=colour, font="TkHeadingFont", spacing1=12)
        bar.pack(fill="x")
        self.about.pack(fill="x", pady=8)
        self.status.pack(side="bottom", fill="x")
        line.pack(side="bottom", fill="x", pady=8)
        scroll.pack(side="right", fill="y")
        self.paper.pack(fill="both", expand=True)
        self.entry = ttk.Entry(line, font="TkTextFont")
        self.entry.pack(side="left", fill="x", expand=True, ipady=4)
        self.buttons: list[tuple[ttk.Button, Capability]] = []
        for name, needs, frame, command in (
            ("New", GENERATE, bar, lambda: self.submit("Forgetting…", self.reset)),
            ("Model…", ANYTIME, bar, partial(self.ask, filedialog.askopenfilename, self.load)),
            ("Open…", FILES, bar, partial(self.ask, filedialog.askopenfilename, self.open)),
            ("Save…", FILES, bar, partial(self.ask, filedialog.asksaveasfilename, self.save)),
            ("Send", GENERATE, line, self.send),
            ("Stop", CANCEL, line, self.stop),
        ):
            button = ttk.Button(frame, text=name, command=command)
            button.pack(side="left", padx=(6 * (frame is line), 6 * (frame is bar)))
            self.buttons.append((button, needs))
        root.bind("<Return>", lambda _: self.send())
        root.bind("<Escape>", lambda _: self.stop())
        root.protocol("WM_DELETE_WINDOW", self.close)
        self.entry.focus_set()


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat window.")
    parser.add_argument("model", nargs="?", default="demo", help="path of a GGUF, or demo")
    parser.add_argument("--backend", default="auto", help="auto, native or wasm")
    args = parser.parse_args()
    try:
        root = tk.Tk()
    except tk.TclError as error:
        parser.exit(1, f"There is no screen for a window ({error}). Use llama-bridge chat.\n")
    ChatWindow(root, LlamaBridge(backend=args.backend), args.model).root.mainloop()


if __name__ == "__main__":
    main()
