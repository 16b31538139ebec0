"""A runtime that answers in text, as one over a server would: no tokens, no KV cache, no file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

from llama_bridge import (
    Availability,
    Backend,
    Capability,
    ClosedError,
    FinishReason,
    Generation,
    Mode,
    Model,
    ModelParams,
    OnProgress,
    PendingAnswer,
    Request,
    Runtime,
    SessionStorage,
    Usage,
)

FLAGS = Capability.GENERATE | Capability.STREAM | Capability.CANCEL | Capability.CHAT_TEMPLATE


class TextBackend(Backend):
    name, rank, capabilities = "text", 0, FLAGS

    def probe(self) -> Availability:
        return Availability(self.name, True)

    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        return TextRuntime()


class TextRuntime(Runtime):
    backend, capabilities = "text", FLAGS

    def __init__(self) -> None:
        self.ending = threading.Event()  # of all that was asked before
        self.closed = False

    def answer(self, request: Request) -> PendingAnswer:
        if self.closed:
            raise ClosedError("this LlamaBridge is closed: make a new one")
        return TextAnswer(request, self.ending)

    def cancel(self) -> None:
        self.ending.set()
        self.ending = threading.Event()

    def close(self) -> None:
        self.closed = True
        self.cancel()


class TextAnswer(PendingAnswer):
    def __init__(self, request: Request, ending: threading.Event) -> None:
        self.request, self.ending, self.ended, self.said = request, ending, False, ""
        self.words, self.finish = self.speak(), cast("FinishReason | None", None)

    def speak(self) -> Iterator[str]:
        """You said: the prompt, word by word, up to a stop string or as many words as may be."""
        text = f"You said: {self.request.prompt}"
        ends = [text.index(stop) for stop in self.request.stop if stop in text]
        words = text[: min(ends, default=len(text))].split(" ")
        most = self.request.sampling.max_tokens or len(words)
        for i, word in enumerate(words[:most]):
            yield " " * (i > 0) + word
        self.finish = "length" if len(words) > most else "stop"

    def read(self) -> str | None:
        if self.finish or self.ended or self.ending.is_set():
            return None
        word = next(self.words, None)
        self.said += word or ""
        return word

    def end(self) -> None:
        self.ended = True

    @property
    def generation(self) -> Generation:
        usage = Usage(0, 0, 0, len(self.said.split()), 0.0, 0.0)
        finish = self.finish or "cancelled"
        return Generation(self.said, finish, Mode.FRESH, usage, self.request.fallback)
