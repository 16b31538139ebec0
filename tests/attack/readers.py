"""Threads that leave streams half read, while others do everything else: nobody waits for ever, nothing is mixed up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

from llama_bridge import BridgeError, LlamaBridge, TextStream
from llama_bridge.testing import FakeLlama, babble
from tests.ledger import machine

__all__ = ["half_read"]

_THREADS = 6
_CALLS = 25
_PATIENCE = 30.0


def half_read(seed: int) -> Iterator[str | None]:
    """The attack, without end."""
    chance = random.Random(seed)
    while True:
        with FakeLlama(lambda asked: babble(asked)[:40] + "!") as llama:
            for _ in range(5):
                yield _round(llama, chance.randrange(2**32))


def _round(llama: LlamaBridge, seed: int) -> str | None:
    """Some threads do something of everything, each in a conversation of its own and in the bridge's."""
    found: list[str] = []
    clients = [_Client(llama, f"client{i}", random.Random(seed + i)) for i in range(_THREADS)]
    threads = [
        threading.Thread(target=client.work, args=(found,), daemon=True) for client in clients
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        return f"round {seed}: somebody waits for ever"
    for client in clients:
        client.left.clear()
    llama.generate("the end")
    active = machine(llama)
    if active.engine.length != len(active.kv.tokens):
        found.append(f"{len(active.kv.tokens)} tokens, {active.engine.length} in the cache")
    for client in clients:
        said = [m["content"] for m in llama.session(client.name).messages if m["role"] == "user"]
        strange = [text for text in said if not text.startswith(client.name)]
        if strange:
            found.append(f"{client.name} has somebody else's words: {strange}")
    return f"round {seed}: {found[0]}" if found else None


class _Client:
    def __init__(self, llama: LlamaBridge, name: str, chance: random.Random) -> None:
        self.name = name
        self.left: list[TextStream] = []
        self._llama = llama
        self._own = llama.session(name)
        self._chance = chance
        self._calls: list[Callable[[], object]] = [
            lambda: self._own.generate_continue(f"{name} asks"),
            lambda: self._own.generate(f"{name} begins"),
            lambda: llama.generate("in the bridge's own"),
            self._leave,
            self._leave,
            self._read_on,
            self._drop,
            self._close,
            llama.cancel,
            lambda: self._own.rewind(),
            lambda: self._own.reset(),
            lambda: self._own.fork().delete(),
            lambda: self._own.messages,
            lambda: llama.sessions(),
            lambda: llama.tokenize("x"),
            lambda: llama.apply_chat_template([{"role": "user", "content": "x"}]),
        ]

    def work(self, found: list[str]) -> None:
        """Do this and that."""
        for _ in range(_CALLS):
            try:
                self._chance.choice(self._calls)()
            except BridgeError:
                pass  # nothing to rewind, say
            except BaseException as error:
                found.append(f"{type(error).__name__}: {error}")

    def _leave(self) -> None:
        stream = self._own.generate_continue_stream(f"{self.name} leaves")
        next(stream, None)
        self.left.append(stream)

    def _read_on(self) -> None:
        if self.left:
            stream = self.left.pop()
            rest = "".join(stream)
            if not stream.result.text.endswith(rest):
                raise AssertionError(f"{rest!r} is not the end of {stream.result.text!r}")

    def _drop(self) -> None:
        if self.left:
            self.left.pop(0)

    def _close(self) -> None:
        if self.left:
            self.left.pop().close()
