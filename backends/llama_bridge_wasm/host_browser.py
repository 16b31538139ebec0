"""A guest in the engine of the browser (or of Node) that Pyodide runs in. Its JavaScript errors stay in this file."""

# JavaScript is untyped, and all of it comes from one module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: D102  (the Guest protocol documents its methods)

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from llama_bridge.errors import BackendUnavailable, ClosedError, EngineError

from . import stop
from .abi import MODEL_PATH
from .logs import LOG_TAIL, log_lines
from .memory_limit import MAX_MEMORY, check_room, limited, memory_of
from .page import JsException, js, let_messages_in, new, proxy
from .wasi import WASI, GuestFile, World

__all__ = ["BrowserGuest", "FillsMemory"]

_logger = logging.getLogger("llama_bridge.wasm")
_CLOCK = 0
_CHUNK = 1 << 16
_CHUNK_WITHOUT_FLAG = 8
"""Tokens between two looks at the worker's messages, where a page has no other way to say stop."""
_modules: dict[Path, Any] = {}


class BrowserGuest:
    """A fresh instance of llama.wasm that can read one file. See :class:`~.abi.Guest`.

    It has a linear memory of its own: Pyodide's stays as small as it is.
    """

    def __init__(self, wasm: Path, file: GuestFile, memory_limit: int = MAX_MEMORY) -> None:
        """Instantiate.

        Args:
            wasm: the module.
            file: the one file the guest may read.
            memory_limit: most bytes of linear memory.

        Raises:
            BackendUnavailable: the module cannot be used here.
            OutOfMemory: the limit leaves no room even for the module itself.
            EngineError: its start failed.
        """
        self.version = str(getattr(js.navigator, "userAgent", "JavaScript"))
        self._log_lines: deque[str] = deque(maxlen=LOG_TAIL)
        self._dead = ""
        self._closed = False
        self._stop = stop.watched()
        self._world = World(file, MODEL_PATH.lstrip("/"), self, self._log)
        functions = {
            **self._world.imports(),
            "clock_time_get": self._clock,
            "random_get": self._random,
        }
        self._proxies = {name: proxy(function) for name, function in functions.items()}
        self._unknown = proxy(self._world.unknown)
        try:
            module = _module(wasm, file, memory_limit)
            imports = new(js.Object)
            for wanted in js.WebAssembly.Module.imports(module):
                if wanted.module == WASI:
                    setattr(imports, wanted.name, self._proxies.get(wanted.name, self._unknown))
            outer, host = new(js.Object), new(js.Object)
            # Nothing of Python's stands between: it is asked for each node of a graph.
            host.stop = js.Atomics.load.bind(js.Atomics, self._stop, 0)
            setattr(outer, WASI, imports)
            outer.lb_host = host
            self._exports: Any = new(js.WebAssembly.Instance, module, outer).exports
            self._memory: Any = self._exports.memory
            self.call("_initialize")
            self.call("lb_set_log_level", 2 if _logger.isEnabledFor(logging.DEBUG) else 3)
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

    @property
    def log_tail(self) -> str:
        return "\n".join(self._log_lines)

    def call(self, name: str, *args: int) -> int:
        self._check_open()
        if self._dead:
            raise EngineError(self._dead)
        try:
            result = getattr(self._exports, name)(*args)
        except JsException as error:
            raise self._died(name, error) from error
        if (failure := self._world.failure) is not None:
            self._world.failure = None
            if isinstance(failure, Exception):
                raise EngineError(f"{name}: the host failed: {failure}") from failure
            raise failure
        return 0 if result is None else int(result)

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
        while done < size:  # through Python, a piece at a time
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

    def clear_stop(self) -> None:
        self._stop[0] = 0

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
        self._exports = self._memory = None
        for function in [*self._proxies.values(), self._unknown]:
            function.destroy()
        self._world.close()

    # inside

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed")

    def _array(self, pointer: int, size: int) -> Any:
        """A view, made anew each time: growing memory ends the old ones."""
        self._check_open()
        if pointer < 0 or size < 0 or pointer + size > self._memory.buffer.byteLength:
            raise IndexError(f"{size} bytes at {pointer} are outside the guest's memory")
        return new(js.Uint8Array, self._memory.buffer, pointer, size)

    def _died(self, name: str, error: Exception) -> EngineError:
        code = self._world.exit_code
        why = f"it left with status {code}" if code is not None else str(error).splitlines()[0]
        words = f" It last said: {self._log_lines[-1]}" if self._log_lines else ""
        self._dead = f"llama.wasm stopped in {name}: {why}.{words} Load the model again."
        cause, self._world.failure = self._world.failure, None
        error.__cause__ = error.__cause__ or cause
        return EngineError(self._dead)

    def _log(self, data: bytes) -> None:
        for level, text in log_lines(data):
            self._log_lines.append(text)
            _logger.log(level, "%s", text)

    # what wasmtime has of its own

    def _clock(self, clock: int, _precision: int, out: int) -> int:
        now = js.Date.now() if clock == _CLOCK else js.performance.now()
        self.write(out & 0xFFFFFFFF, int(now * 1e6).to_bytes(8, "little"))
        return 0

    def _random(self, out: int, size: int) -> int:
        js.crypto.getRandomValues(self._array(out & 0xFFFFFFFF, size))
        return 0


class FillsMemory:
    """A file whose bytes JavaScript has: they go into guest memory without a way through Python's."""

    def fill(self, array: Any) -> int:
        """Read into a ``Uint8Array`` as much as fits and there is; how many bytes that was."""
        raise NotImplementedError


def _module(wasm: Path, file: GuestFile, memory_limit: int) -> Any:
    """The compiled module: with the memory that it asks for once for each file, with less for each guest."""
    if memory_limit >= MAX_MEMORY and wasm in _modules:
        return _modules[wasm]
    try:
        code = wasm.read_bytes()
    except OSError as error:
        raise BackendUnavailable("wasm", f"{wasm} cannot be read: {error}") from error
    if memory_limit < MAX_MEMORY:
        with suppress(ValueError):  # the engine says below what is wrong with it
            check_room(memory_of(code)[0], file.path, memory_limit)
            code = limited(code, memory_limit)
    array = new(js.Uint8Array, len(code))
    array.assign(code)
    try:
        module = new(js.WebAssembly.Module, array)
    except JsException as error:
        raise BackendUnavailable(
            "wasm",
            f"this browser does not take llama.wasm: {error}",
            "It needs WebAssembly with relaxed SIMD and exceptions: Chrome 137, Firefox 145 or Safari 26 have them.",
        ) from error
    if memory_limit >= MAX_MEMORY:
        _modules[wasm] = module
    return module
