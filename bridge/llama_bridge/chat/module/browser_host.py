"""chat.wasm in the engine of the browser (or Node) that runs Pyodide. JavaScript errors stay in this file."""

# ``js`` and ``pyodide`` exist only in Pyodide, and are untyped.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import js as _js  # type: ignore[import-not-found]
from pyodide.ffi import JsException as _JsException  # type: ignore[import-not-found]

from ...errors import BackendUnavailable
from .host import ABI_VERSION, InstanceLost

__all__ = ["BrowserHost"]

js: Any = _js
JsException: type[Exception] = _JsException
_modules: dict[Path, Any] = {}


class BrowserHost:
    """An instance with a memory of its own, at most 256 MiB. See :class:`~.host.Host`.

    JavaScript cannot end a call from the same worker. The guest ends it itself, after many steps.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path not in _modules:
                _modules[path] = js.WebAssembly.Module.new(_array(path.read_bytes()))
            self._exports: Any = js.WebAssembly.Instance.new(
                _modules[path], js.Object.new()
            ).exports
            self._exports._initialize()
            found = self._exports.lb_chat_abi_version()
        except (OSError, JsException) as error:
            raise BackendUnavailable(
                "chat", f"this browser does not accept chat.wasm: {error}"
            ) from error
        if found != ABI_VERSION:
            raise BackendUnavailable("chat", f"chat.wasm has ABI {found}, not {ABI_VERSION}")

    def call(self, name: str, argument: bytes, seconds: float) -> bytes:
        """See :class:`~.host.Host`."""
        size = len(argument)
        try:
            pointer = self._exports.lb_chat_input(size) & 0xFFFFFFFF
            if not pointer:
                raise InstanceLost("no memory for the messages")
            self._view(pointer, size).assign(argument)
            answer = getattr(self._exports, name)(size) & 0xFFFFFFFF
            length = int.from_bytes(self._view(answer, 4).to_bytes(), "little")
            return bytes(self._view(answer + 4, length).to_bytes())
        except JsException as error:
            raise InstanceLost((str(error).splitlines() or ["no reason given"])[0]) from error

    def release(self, parser: int) -> None:
        """See :class:`~.host.Host`."""
        try:
            self._exports.lb_chat_release(parser)
        except JsException as error:
            raise InstanceLost(str(error)) from error

    @property
    def memory_size(self) -> int:
        """See :class:`~.host.Host`."""
        return int(self._exports.memory.buffer.byteLength)

    def close(self) -> None:
        """See :class:`~.host.Host`."""
        self._exports = None

    def _view(self, pointer: int, size: int) -> Any:
        """A new view each time, because growing the memory invalidates old ones."""
        if pointer + size > self.memory_size:
            raise InstanceLost("it answered with an address outside of its memory")
        return js.Uint8Array.new(self._exports.memory.buffer, pointer, size)


def _array(data: bytes) -> Any:
    array = js.Uint8Array.new(len(data))
    array.assign(data)
    return array
