"""A chat window that never freezes: python examples/desktop_chat.py [MODEL] [--backend native|wasm]

A worker thread does everything slow: it takes jobs, and sends events that the window runs. Only a server is reached in a
thread of its own: one that says nothing would hold up the worker for minutes.
"""

from __future__ import annotations

import argparse
import threading
import tkinter as tk
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from tkinter import filedialog, ttk

from llama_bridge import Capability, LlamaBridge, Message, Progress, ServedModel, TextDelta

GENERATE, FILES, CANCEL = Capability.GENERATE, Capability.SESSION_PERSISTENCE, Capability.CANCEL
SESSIONS, TEMPLATE, ANYTIME = Capability.KV_CONTINUATION, Capability.CHAT_TEMPLATE, Capability(0)
NO_FILES = "No Save, no Open: "
ANSWERING, USE_MODEL = "Answering…  Esc stops", "To load a model, use Model…"
DESK, DIM, LINE, QUIET = "#f3f4f6", "#a3a9b2", "#c9ced6", "#5c6570"
COLOURS = {"You": "#0a5bb5", "Model": "#1a7f4b", "Error": "#b3261e"}


class ChatWindow:
    """A window for a bridge that has no model yet; it loads ``model`` once it is open."""

    def __init__(self, root: tk.Tk, llama: LlamaBridge, model: str) -> None:
        self.root, self.home, self.llama = root, llama, llama  # home is on this machine
        self.able, self.lacks = ANYTIME, dict[Capability, str]()
        self.attempt: threading.Thread | None = None  # to reach a server
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
        self.home.close()

    def load(self, model: str) -> str:
        self.home.load_model(model, on_progress=self.progress)
        return self.use(self.home)

    def use(self, llama: LlamaBridge) -> str:
        """Talk to this one, which has a model. A server that was asked before is left."""
        lacks: dict[Capability, str] = {}
        for flag in ~llama.capabilities:
            try:
                llama.requires(flag)
            except Exception as error:
                lacks[flag] = str(error)
        before, self.llama, self.able, self.lacks = self.llama, llama, llama.capabilities, lacks
        if before not in (llama, self.home):
            before.close()
        about = llama.where or f"{llama.model.name} on the {llama.backend} backend"
        self.events.put(partial(self.introduce, about))
        self.events.put(partial(self.redraw, llama.session().messages))
        return "Ready"

    def reach(self, address: str) -> None:
        """A thread of its own: asks a server what it is. The conversation stays until that is known."""
        url, _, name = address.partition(" ")
        llama = LlamaBridge(backend="remote", sampling=self.home.sampling)
        try:
            llama.load_model(ServedModel(url, name.strip()) if name else url)
            event = partial(self.submit, "One moment…", partial(self.use, llama))
        except Exception as error:
            event = partial(self.failed, error)
        me = threading.current_thread()
        if self.attempt is me:
            self.events.put(lambda: self.attempt is me and event())
        else:  # it was given up
            llama.close()

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

    def connect(self) -> None:
        address = self.address.get().strip()
        if not address:
            self.submit("Back to this machine…", partial(self.use, self.home))
            return
        if "://" not in address:
            address = f"http://{address}"
        self.attempt = threading.Thread(target=self.reach, args=(address,), daemon=True)
        self.show(f"Connecting to {address}…  Esc stops", busy=True)
        self.attempt.start()

    def submit(self, status: str, job: Callable[[], str]) -> None:
        self.attempt = None
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
        if self.attempt:
            self.attempt = None
            self.show("Not connected")
        self.stopping.set()
        self.llama.cancel()

    def ask(self, dialog: Callable[[], str], job: Callable[[str], str]) -> None:
        if path := dialog():
            self.submit("One moment…", partial(job, path))

    def failed(self, error: Exception) -> None:
        self.attempt = None
        self.write_turn("Error", " ".join(str(error).split()) or type(error).__name__)
        is_model = getattr(error, "found", "") == "gguf"
        self.show(USE_MODEL if is_model or not self.able else "That did not work")

    def show(self, status: str, *, busy: bool = False) -> None:
        self.busy, self.status["text"] = busy, status
        for button, needs in self.buttons:
            able = self.able | (CANCEL if self.attempt else ANYTIME)
            usable = needs in able and busy == (needs is CANCEL)
            button["state"] = "normal" if usable else "disabled"

    def introduce(self, about: str) -> None:
        """Say what answers, and what it can do."""
        self.about["text"], self.flags["state"] = about, "normal"
        self.flags.delete("1.0", "end")
        for name, flag in Capability.__members__.items():
            self.flags.insert("end", name.lower(), (name, "lacking" * (flag in self.lacks)), "   ")
        self.flags["state"] = "disabled"
        self.explain(FILES)

    def explain(self, flag: Capability) -> None:
        """Say why this is grey, or else why nothing can be saved."""
        saving = NO_FILES + self.lacks[FILES] if FILES in self.lacks else ""
        self.why["text"] = saving if flag is FILES else self.lacks.get(flag, saving)

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
        root.geometry("720x560")
        root.minsize(600, 360)
        root.configure(background=DESK, padx=12, pady=12)
        bar, place, line = (ttk.Frame(root) for _ in range(3))
        self.about, self.why, self.status = (ttk.Label(root, foreground=QUIET) for _ in range(3))
        scroll = ttk.Scrollbar(root)
        self.flags = tk.Text(root, height=3, wrap="word", font="TkSmallCaptionFont", cursor="arrow")
        self.flags.configure(relief="flat", background=DESK, foreground=QUIET, highlightthickness=0)
        self.flags.tag_configure("lacking", foreground=DIM)
        self.why["font"] = "TkSmallCaptionFont"
        self.why.bind("<Configure>", lambda event: self.why.configure(wraplength=event.width))
        self.paper = tk.Text(root, wrap="word", font="TkTextFont", relief="flat", padx=14, pady=8)
        self.paper["yscrollcommand"], scroll["command"] = scroll.set, self.paper.yview
        for who, colour in COLOURS.items():
            self.paper.tag_configure(who, foreground=colour, font="TkHeadingFont", spacing1=12)
        bar.pack(fill="x")
        place.pack(fill="x", pady=(8, 0))
        self.about.pack(fill="x", pady=(8, 2))
        self.flags.pack(fill="x")
        self.why.pack(fill="x", pady=(2, 8))
        self.status.pack(side="bottom", fill="x")
        line.pack(side="bottom", fill="x", pady=8)
        scroll.pack(side="right", fill="y")
        self.paper.pack(fill="both", expand=True)
        ttk.Label(place, text="Server (empty: this machine)").pack(side="left", padx=(0, 6))
        self.address = ttk.Entry(place, font="TkTextFont")
        self.address.pack(side="left", fill="x", expand=True)
        self.entry = ttk.Entry(line, font="TkTextFont")
        self.entry.pack(side="left", fill="x", expand=True, ipady=4)
        self.buttons: list[tuple[ttk.Button, Capability]] = []
        for name, needs, frame, command in (
            ("New", GENERATE, bar, lambda: self.submit("Forgetting…", self.reset)),
            ("Model…", ANYTIME, bar, partial(self.ask, filedialog.askopenfilename, self.load)),
            ("Open…", FILES, bar, partial(self.ask, filedialog.askopenfilename, self.open)),
            ("Save…", FILES, bar, partial(self.ask, filedialog.asksaveasfilename, self.save)),
            ("Connect", ANYTIME, place, self.connect),
            ("Send", GENERATE, line, self.send),
            ("Stop", CANCEL, line, self.stop),
        ):
            button = ttk.Button(frame, text=name, command=command)
            button.pack(side="left", padx=(6 * (frame is not bar), 6 * (frame is bar)))
            button.bind("<Enter>", lambda _, needs=needs: self.explain(needs))
            self.buttons.append((button, needs))
        for name, flag in Capability.__members__.items():
            self.flags.tag_bind(name, "<Enter>", lambda _, flag=flag: self.explain(flag))
        self.address.bind("<Return>", lambda _: self.buttons[4][0].invoke())
        self.entry.bind("<Return>", lambda _: self.send())
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
