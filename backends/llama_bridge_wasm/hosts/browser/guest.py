"""A guest in the engine of the browser (or Node) that runs Pyodide. JavaScript errors stay in this file."""

# JavaScript is untyped, and all of it comes from one module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: D102  (the Guest protocol documents its methods)

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from llama_bridge.errors import BackendUnavailable, EngineError, OutOfMemory
from llama_bridge.progress import OnProgress

from ...abi import MAX_MEMORY, BadPointer
from ...page import FillsMemory, JsException, js, let_messages_in, new, proxy
from ..hosted import Hosted, tell_compile
from ..linear_memory import MemoryImport, find_memory, unshared
from ..wasi import WASI, GuestFile
from . import kept, stop
from .threads import Threads

__all__ = ["BrowserGuest"]

_CLOCK = 0
_CHUNK = 1 << 16
_CHUNK_WITHOUT_FLAG = 8
"""Tokens between two checks of the worker's messages, if a page has no other way to stop it."""
_modules: dict[tuple[Path, bool], tuple[Any, MemoryImport]] = {}


class BrowserGuest(Hosted):
    """A new instance of llama.wasm that can read the files of one model. See :class:`~.abi.Guest`.

    It has its own linear memory, so Pyodide's does not grow.
    """

    failures = (JsException,)

    def __init__(
        self,
        wasm: Path,
        file: GuestFile,
        memory_limit: int = MAX_MEMORY,
        *,
        shared: bool = False,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Instantiate.

        Args:
            wasm: the module.
            file: the model that the guest may read.
            memory_limit: the most bytes of linear memory.
            shared: use a memory that threads can share.
            on_progress: called for the stage ``"compile"``.

        Raises:
            BackendUnavailable: the module cannot be used here.
            OutOfMemory: the limit is too small even for the module itself, or the browser has no memory for it.
            EngineError: it could not be started.
        """
        # Before the try: on_progress may raise a JavaScript error, which is the caller's own.
        module, asked = _module(wasm, shared, on_progress)
        self.version = str(getattr(js.navigator, "userAgent", "JavaScript"))
        super().__init__(file)
        self._stop = stop.watched()
        functions = {
            **self.world.imports(),
            "clock_time_get": self._clock,
            "random_get": self._random,
        }
        self._proxies = {name: proxy(function) for name, function in functions.items()}
        self._unknown = proxy(self.world.unknown)
        self._spawn = proxy(self._start_thread)
        self._threads: Threads | None = None
        self._exports: Any = None
        try:
            self._memory: Any = _memory(asked, memory_limit, file.path, shared=shared)
            if shared:
                self._threads = Threads(module, self._memory)
            imports = new(js.Object)
            for wanted in js.WebAssembly.Module.imports(module):
                if wanted.module == WASI:
                    setattr(imports, wanted.name, self._proxies.get(wanted.name, self._unknown))
            outer, host, given = new(js.Object), new(js.Object), new(js.Object)
            # No Python in between: it is called for each node of a graph.
            host.stop = js.Atomics.load.bind(js.Atomics, self._stop, 0)
            host.spawn = self._spawn
            setattr(given, asked.name, self._memory)
            setattr(outer, WASI, imports)
            setattr(outer, asked.module, given)
            outer.lb_host = host
            self._exports = new(js.WebAssembly.Instance, module, outer).exports
            self._begin()
        except JsException as error:
            self.close()
            raise EngineError(f"llama.wasm could not be started: {error}") from error
        except BaseException:
            self.close()
            raise

    # the Guest protocol

    @property
    def memory_size(self) -> int:
        self._check_open()
        return int(self._memory.buffer.byteLength)

    def recall(self, name: str) -> str:
        return kept.recall(name)

    def keep(self, name: str, word: str) -> None:
        kept.keep(name, word)

    def _run(self, name: str, args: tuple[int, ...]) -> int:
        result = getattr(self._exports, name)(*args)
        return 0 if result is None else int(result)

    def _words(self, error: Exception) -> str:
        words = self._threads.failure if self._threads else ""
        return words or (str(error).splitlines() or ["no reason given"])[0]

    def read(self, pointer: int, size: int) -> bytearray:
        copy = bytearray(size)
        self._array(pointer, size).assign_to(copy)
        return copy

    def write(self, pointer: int, data: bytes) -> None:
        self._array(pointer, len(data)).assign(data)

    def fill(self, pointer: int, size: int, file: BinaryIO) -> int:
        if isinstance(file, FillsMemory):
            return file.fill(self._array(pointer, size))
        done = 0
        while done < size:  # through Python, piece by piece
            data = file.read(min(size - done, 1 << 20))
            if not data:
                break
            self.write(pointer + done, data)
            done += len(data)
        return done

    def flag(self, pointer: int) -> Callable[[int], None]:
        self._array(pointer, 4)

        def write(value: int) -> None:
            if not self._closed:
                new(js.Int32Array, self._memory.buffer, pointer, 1)[0] = value

        return write

    @property
    def stopped(self) -> bool:
        return bool(self._stop[0])

    def pause(self) -> None:
        if not stop.is_shared():
            let_messages_in()

    @property
    def chunk(self) -> int:
        return _CHUNK if stop.is_shared() else _CHUNK_WITHOUT_FLAG

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._threads is not None and self._exports is not None:
            self._kill()
            self._threads.join()
        self._exports = self._memory = self._threads = None
        for function in [*self._proxies.values(), self._unknown, self._spawn]:
            function.destroy()
        self.world.close()

    # inside

    def _array(self, pointer: int, size: int) -> Any:
        """A new view each time, because growing the memory invalidates old ones."""
        self._check_open()
        if pointer < 0 or size < 0 or pointer + size > self._memory.buffer.byteLength:
            raise BadPointer(pointer, size)
        return new(js.Uint8Array, self._memory.buffer, pointer, size)

    def _start_thread(self, pointer: int) -> int:
        return self._threads.spawn(pointer) if self._threads else -1

    def _kill(self) -> None:
        if self._threads is not None:
            with suppress(JsException):
                self._exports.lb_kill()

    # imports that wasmtime brings itself

    def _clock(self, clock: int, _precision: int, out: int) -> int:
        now = js.Date.now() if clock == _CLOCK else js.performance.now()
        self.write(out & 0xFFFFFFFF, int(now * 1e6).to_bytes(8, "little"))
        return 0

    def _random(self, out: int, size: int) -> int:
        own = new(js.Uint8Array, size)  # getRandomValues takes no shared memory
        js.crypto.getRandomValues(own)
        self._array(out & 0xFFFFFFFF, size).set(own)
        return 0


def _module(wasm: Path, shared: bool, on_progress: OnProgress | None) -> tuple[Any, MemoryImport]:
    """The compiled module, compiled once per file, and the memory it imports."""
    if (wasm, shared) in _modules:
        return _modules[wasm, shared]
    try:
        code = wasm.read_bytes()
    except OSError as error:
        raise BackendUnavailable("wasm", f"{wasm} cannot be read: {error}") from error
    try:
        asked = find_memory(code)
    except ValueError as error:
        raise BackendUnavailable(
            "wasm", f"this browser does not accept llama.wasm: {error}"
        ) from error
    code = code if shared else unshared(code)
    tell_compile(on_progress, 0, len(code))
    try:
        array = new(js.Uint8Array, len(code))
        array.assign(code)
        module = new(js.WebAssembly.Module, array)
    except JsException as error:
        raise BackendUnavailable(
            "wasm",
            f"this browser does not accept llama.wasm: {error}",
            "It needs WebAssembly with relaxed SIMD and exceptions: Chrome 137 and Firefox 145 have them.",
        ) from error
    _modules[wasm, shared] = module, asked
    tell_compile(on_progress, len(code), len(code))
    return module, asked


def _memory(asked: MemoryImport, limit: int, model: Path, *, shared: bool) -> Any:
    """A memory of at most ``limit`` bytes, or fewer if the browser reserves them at once and cannot get as many.

    Raises:
        OutOfMemory: the limit is too small even for the module itself, or the browser has no memory for it.
    """
    options = new(js.Object)
    options.initial, options.shared = asked.minimum, shared
    most = asked.most(limit, model)
    while True:
        options.maximum = most
        try:
            return new(js.WebAssembly.Memory, options)
        except JsException as error:
            if getattr(error, "name", "") == "TypeError":  # no memory of this kind here
                raise
            if not shared or most // 2 < asked.minimum:
                raise OutOfMemory(
                    model,
                    f"the browser has no memory for llama.wasm ({error}): close() other models, or reload the page",
                ) from error
            most //= 2
