"""What the server itself costs: processor time per token of eight streams, beyond what the library takes for them.

Their tokens come from a runtime that computes nothing and gives each stream one token a step, as a batch of a real model does.
So every token wakes the server's event loop: the dearest case.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import uvicorn

from llama_bridge import (
    Availability,
    Backend,
    Capability,
    Generation,
    LlamaBridge,
    Mode,
    ModelParams,
    Runtime,
    Usage,
)
from llama_bridge.chat.form import ChatPrompt, ChatWish, PlainReader
from llama_bridge.chat.message import Message
from llama_bridge.cli.listening import listen
from llama_bridge.prompt import Prompt
from llama_bridge.request import Request
from llama_bridge.runtime import Model, SessionStorage
from llama_bridge.serve import app
from llama_bridge.serve.running import configured
from llama_bridge.stream import PendingAnswer

from .measure import spread
from .report import Report

__all__ = ["measure_serving"]

_STREAMS = 8
_STEP = 0.02
_BOUND = 0.3
_CAN = Capability.GENERATE | Capability.STREAM | Capability.CANCEL | Capability.CHAT_TEMPLATE


class _Steps:
    """A clock that all streams wait for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_STEP)
            with self._changed:
                self.count += 1
                self._changed.notify_all()

    def after(self, last: int) -> int:
        with self._changed:
            while self.count <= last:
                self._changed.wait()
            return self.count


class _Answer(PendingAnswer):
    def __init__(self, steps: _Steps, tokens: int) -> None:
        self._steps = steps
        self._tokens = self._left = tokens
        self._at = steps.count

    def read(self) -> str | None:
        """See :meth:`PendingAnswer.read`."""
        if not self._left:
            return None
        self._at = self._steps.after(self._at)
        self._left -= 1
        return "word "

    def end(self) -> None:
        """See :meth:`PendingAnswer.end`."""
        self._left = 0

    @property
    def generation(self) -> Generation:
        """See :attr:`PendingAnswer.generation`."""
        usage = Usage(1, 0, 1, self._tokens, 0.1, self._tokens * _STEP)
        return Generation("word " * self._tokens, "length", Mode.FRESH, usage)


class _Runtime(Runtime):
    backend = "steps"
    capabilities = _CAN

    def __init__(self) -> None:
        self._steps = _Steps()

    def answer(self, request: Request) -> PendingAnswer:
        """See :meth:`Runtime.answer`."""
        return _Answer(self._steps, request.sampling.max_tokens or 1)

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Runtime.ask`."""
        return ChatPrompt(Prompt.text("x"), PlainReader())

    def cancel(self) -> None:
        """See :meth:`Runtime.cancel`."""

    def close(self) -> None:
        """See :meth:`Runtime.close`."""


class _Backend(Backend):
    name = "steps"
    rank = 0
    capabilities = _CAN

    def probe(self) -> Availability:
        """See :meth:`Backend.probe`."""
        return Availability("steps", True)

    def open(
        self, model: Model, params: ModelParams, storage: SessionStorage, on_progress: object
    ) -> Runtime:
        """See :meth:`Backend.open`."""
        return _Runtime()


def measure_serving(report: Report, *, rounds: int, tokens: int) -> None:
    """A row for each way; the server must cost at most 0.3 ms a token."""
    taken = {"library": [_library(tokens) for _ in range(rounds)]}
    taken["server"] = [_server(tokens) for _ in range(rounds)]
    medians = {name: spread(values) for name, values in taken.items()}
    own = medians["server"].median - medians["library"].median
    report.table(
        f"Serving: {_STREAMS} streams of {tokens} tokens, one a step each, {rounds} rounds",
        ["", "ms of processor time a token"],
        [
            [name, f"{each.median:.3f} ({each.low:.3f} to {each.high:.3f})"]
            for name, each in medians.items()
        ],
        "Medians and quartiles. The model costs nothing here.",
    )
    promise = f"the server costs at most {_BOUND} ms a token at {_STREAMS} streams"
    report.bound(promise, own, own <= _BOUND, f"{own:.3f} ms")


def _library(tokens: int) -> float:
    with LlamaBridge("none", backend=_Backend()) as llama:

        def read() -> None:
            for _ in llama.chat_stream([{"role": "user", "content": "x"}], max_tokens=tokens):
                pass

        began = time.process_time()
        _together(read)
        return 1000 * (time.process_time() - began) / (_STREAMS * tokens)


def _together(read: object) -> None:
    threads = [threading.Thread(target=read) for _ in range(_STREAMS)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _server(tokens: int) -> float:
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        port = int(stdout.readline())

        def used() -> float:
            stdin.write("\n")
            stdin.flush()
            return float(stdout.readline())

        _read(port, 2)
        began = used()
        _together(lambda: _read(port, tokens))
        taken = used() - began
        stdin.close()
    return 1000 * taken / (_STREAMS * tokens)


def _read(port: int, tokens: int) -> None:
    """Read one stream, with as little of a client as there can be."""
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": tokens, "stream": True}
    body = json.dumps(asked).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while b"[DONE]" not in said:
            said = said[-16:] + link.recv(1 << 16)


def _serve() -> None:
    """Serve; each line on standard input is answered with the processor time so far."""
    with LlamaBridge("none", backend=_Backend()) as llama, listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configured(app(llama, name="none"), 1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        print(listener.getsockname()[1], flush=True)
        while sys.stdin.readline():
            print(time.process_time(), flush=True)
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    _serve()
