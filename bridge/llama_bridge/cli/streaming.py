"""Shows an answer as it arrives. Ctrl-C stops it without losing the conversation."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from types import FrameType, TracebackType
from typing import Any, Protocol

from ..bridge import LlamaBridge
from ..chat.stream import ChatStream, ReasoningDelta, TextDelta
from ..generation import Generation, Usage
from .terminal import Terminal, count
from .typed_ahead import TypedAhead

__all__ = ["Texts", "TextsAndThoughts", "TextsOfChat", "cost", "ending", "record", "stream_answer"]

_WAIT = 0.1
_LONG = 0.4
_INTERRUPTED = 130


class Texts(Protocol):
    """An answer as texts, such as a TextStream."""

    def __iter__(self) -> Iterator[str]: ...

    def __enter__(self) -> object: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    @property
    def result(self) -> Generation:
        """The whole answer."""
        ...


class TextsOfChat:
    """The texts of a chat's answer, without its reasoning and its calls."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        return (event.text for event in self._stream if isinstance(event, TextDelta))

    def __enter__(self) -> object:
        return self._stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)

    @property
    def result(self) -> Generation:
        """The whole answer."""
        return self._stream.result


class TextsAndThoughts(TextsOfChat):
    """The texts of a chat's answer, after what the model thinks, which is a paragraph of its own."""

    def __iter__(self) -> Iterator[str]:
        thinks = False
        for event in self._stream:
            if isinstance(event, ReasoningDelta):
                thinks = True
                yield event.text
            elif isinstance(event, TextDelta):
                yield "\n\n" * thinks + event.text
                thinks = False


def stream_answer(
    llama: LlamaBridge,
    terminal: Terminal,
    start: Callable[[], Texts],
    *,
    show: bool = True,
    keys: TypedAhead | None = None,
) -> Generation:
    """Run a generation to its end and write its text as it arrives.

    A thread does the work and this one waits, so that Ctrl-C also works during a long prefill. It cancels the
    generation, which then ends as ``"cancelled"``. A person sees the progress of a long prefill, if the bridge
    reports it. ``keys`` holds back what a person types meanwhile.
    """
    keys = keys or TypedAhead()
    pieces: queue.SimpleQueue[str | Generation | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            stream = start()
            with stream:
                for delta in stream:
                    pieces.put(delta)
            pieces.put(stream.result)
        except BaseException as error:  # raised again in the waiting thread
            pieces.put(error)

    worker = threading.Thread(target=work, name="llama-bridge-answer", daemon=True)
    warned = False
    clock = time.monotonic()
    with _ctrl_c(llama.cancel, keys) as pressed, contextlib.ExitStack() as prefill:
        worker.start()
        try:
            while True:
                if pressed():
                    llama.cancel()  # again: the start of the work clears an earlier one
                if pressed() > 1 and not warned:
                    warned = True
                    terminal.note("\nstill stopping; Ctrl-C once more ends the program")
                if clock and time.monotonic() > clock + _LONG:
                    prefill.enter_context(terminal.waiting("reading the prompt"))
                    clock = 0
                with contextlib.suppress(queue.Empty):
                    piece = pieces.get(timeout=_WAIT)  # bounded: Windows hears Ctrl-C in between
                    prefill.close()
                    clock = 0
                    if isinstance(piece, Generation):
                        return piece
                    if isinstance(piece, BaseException):
                        raise piece
                    if show:
                        terminal.write(piece)
        finally:
            while worker.is_alive():  # the output failed: nobody reads the rest
                llama.cancel()
                worker.join(_WAIT)


@contextlib.contextmanager
def _ctrl_c(cancel: Callable[[], None], keys: TypedAhead) -> Generator[Callable[[], int]]:
    """Inside the block, Ctrl-C calls ``cancel``; if that does not help, the third one ends the program."""
    presses = 0

    def on_interrupt(_: int, __: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        cancel()
        if presses > 2:
            keys.release()
            os._exit(_INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: presses
    finally:
        signal.signal(signal.SIGINT, before)


def cost(usage: Usage) -> str:
    """What an answer cost, in one line."""
    parts = [f"{usage.cached_tokens:,} cached + {count(usage.evaluated_tokens, 'evaluated token')}"]
    parts.append(f"{usage.completion_tokens:,} generated")
    if usage.tokens_per_second:
        parts.append(
            f"{usage.tokens_per_second:,.{0 if usage.tokens_per_second > 9 else 1}f} tokens/s"
        )
    return " · ".join(parts)


def record(generation: Generation) -> dict[str, Any]:
    """An answer as JSON shows it."""
    fallback = None if generation.fallback is None else str(generation.fallback)
    return asdict(generation) | {"mode": generation.mode.value, "fallback": fallback}


def ending(generation: Generation, max_tokens: int | None) -> str:
    """Why an answer ended if the model did not end it; otherwise empty."""
    if generation.finish_reason == "cancelled":
        return "cancelled"
    if generation.finish_reason == "length":
        full = max_tokens is None or generation.usage.completion_tokens < max_tokens
        return "cut off: the context is full" if full else f"cut off by --max-tokens {max_tokens}"
    return ""
