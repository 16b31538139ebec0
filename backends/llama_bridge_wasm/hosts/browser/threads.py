"""Threads of a guest in a page: workers that share its memory, if the page is cross-origin isolated.

A browser starts a worker only while its parent waits for messages, and Python does not wait while it loads a model. So
``await prepare()`` starts the workers first, and each then runs one thread after another. If the browser can suspend
Python (JSPI), loading a model does this itself.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from ...page import JsException, can_wait, is_isolated, js, new, proxy, to_js, wait

__all__ = ["Threads", "available", "cores", "prepare"]

_MOST = 32
_START_SECONDS = 20.0
_END_MS = 5000
_FREE_MS, _FREE_TRIES = 10, 500
_IDLE, _BUSY = 0, 1
_WORDS = 400

_log = logging.getLogger("llama_bridge.wasm")
_workers: list[Any] = []
_states: Any = None
_refused = False
_preparing = asyncio.Lock()


def cores() -> int:
    """How many this machine has, according to the browser."""
    return int(js.navigator.hardwareConcurrency or 1)


async def prepare(threads: int = 0) -> int:
    """Start the workers for the next model. Workers of models that are still loaded do not count.

    Args:
        threads: how many threads the model should have; 0 means one per core of the machine.

    Returns:
        How many it can have. This is 1 if the page is not cross-origin isolated, or refuses workers.
    """
    global _states, _refused
    wanted = min(threads or cores(), _MOST)
    async with _preparing:
        if not is_isolated() or _refused:
            return _free() + 1
        if _states is None:
            _states = new(js.Int32Array, new(js.SharedArrayBuffer, 4 * _MOST))
        url = _script()
        try:
            async with asyncio.timeout(_START_SECONDS):
                while _free() < wanted - 1 and len(_workers) < _MOST:
                    _workers.append(await _start(url, len(_workers)))
        except (JsException, OSError, TimeoutError) as error:
            _refused = True
            _log.warning("this page cannot start more workers for llama.wasm: %s", error)
        finally:
            js.URL.revokeObjectURL(url)
    return _free() + 1


def available(threads: int) -> int:
    """How many of these threads a model that is loaded now can have."""
    if threads > _free() + 1 and can_wait():
        wait(prepare(threads))
    return min(threads, _free() + 1)


def _free() -> int:
    return sum(int(js.Atomics.load(_states, i)) == _IDLE for i in range(len(_workers)))


class Threads:
    """The extra threads of one guest. See :class:`~.wasmtime.threads.Threads`."""

    def __init__(self, module: Any, memory: Any) -> None:
        self._module = module
        self._memory = memory
        self._used: list[int] = []

    @property
    def failure(self) -> str:
        """Why a thread trapped; empty if none has."""
        for index in self._used:
            data = bytearray(_WORDS)
            _workers[index].said.assign_to(data)
            if words := bytes(data).split(b"\0")[0].decode(errors="replace"):
                return words
        return ""

    def spawn(self, pointer: int) -> int:
        """Start a thread for the guest; negative if no worker is free now or soon.

        A thread that the guest has joined may still be finishing, so its worker is not free at once.
        """
        for _ in range(_FREE_TRIES):
            for index, worker in enumerate(_workers):
                if js.Atomics.compareExchange(_states, index, _IDLE, _BUSY) == _IDLE:
                    worker.said.fill(0)
                    self._used.append(index)
                    work = new(js.Object)
                    work.module, work.memory, work.pointer = self._module, self._memory, pointer
                    worker.postMessage(work)
                    return 0
            if not self._used:
                break  # all are another guest's
            js.Atomics.wait(_states, self._used[-1], _BUSY, _FREE_MS)
        return -1

    def join(self) -> None:
        """Wait until all have ended, after the guest was told to."""
        for index in self._used:
            js.Atomics.wait(_states, index, _BUSY, _END_MS)


def _script() -> str:
    source = Path(__file__).with_name("thread.js").read_text(encoding="utf-8")
    options = new(js.Object)
    options.type = "text/javascript"
    return str(js.URL.createObjectURL(new(js.Blob, to_js([source]), options)))


async def _start(url: str, index: int) -> Any:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(_event: Any) -> None:
        if not ready.done():
            ready.set_result(None)

    def fail(event: Any) -> None:
        if not ready.done():
            ready.set_exception(OSError(getattr(event, "message", None) or "it was not allowed"))

    worker = new(js.Worker, url)
    worker.onmessage, worker.onerror = proxy(answer), proxy(fail)
    worker.said = new(js.Uint8Array, new(js.SharedArrayBuffer, _WORDS))
    greeting = new(js.Object)
    greeting.states, greeting.said, greeting.index = _states, worker.said, index
    worker.postMessage(greeting)
    try:
        await ready
    except BaseException:
        worker.terminate()
        raise
    return worker
