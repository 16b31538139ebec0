"""What runs an instance of chat.wasm, and whether anything can here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Protocol

__all__ = ["ABI_VERSION", "DEFAULT_PATH", "Host", "InstanceLost", "missing", "new_host", "prepare"]

ABI_VERSION = 1
"""Of ``wasm/chat/lb_chat.h``."""
DEFAULT_PATH = Path(__file__).with_name("chat.wasm")

_LIBRARIES = ("*/*wasmtime.so", "*/*wasmtime.dylib", "*/*wasmtime.dll")


class InstanceLost(Exception):
    """An instance trapped or took too long: it cannot be used again. Does not leave this package."""


class Host(Protocol):
    """One instance. One thread at a time may use it."""

    def call(self, name: str, argument: bytes, seconds: float) -> bytes:
        """Call an export of ``lb_chat.h`` with an argument, and return its answer.

        Raises:
            InstanceLost: it trapped, or takes longer than ``seconds``. A page cannot bound time; there the
                instance ends itself after many steps.
        """
        ...

    def release(self, parser: int) -> None:
        """Forget a parser."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes of linear memory that it has."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


def missing() -> str:
    """Why chat templates cannot be used here, or an empty text. Takes 1 ms and imports nothing."""
    if not DEFAULT_PATH.is_file():
        return "chat.wasm is not built: python wasm/build.py"
    if sys.platform == "emscripten":
        return ""
    package = importlib.util.find_spec("wasmtime")
    if package is None or package.origin is None:
        return 'chat templates need wasmtime: pip install "wasmtime>=50,<51"'
    if sys.maxsize < 1 << 32 or not any(
        any(Path(package.origin).parent.glob(pattern)) for pattern in _LIBRARIES
    ):
        return (
            f"chat templates need wasmtime, which has no library for this platform ({sys.platform})"
        )
    return ""


def new_host() -> Host:
    """A new instance.

    Raises:
        BackendUnavailable: there is none here.
    """
    # Only here: a desktop has no js, a page has no wasmtime, whose import takes 60 ms.
    if sys.platform == "emscripten":
        from .browser_host import BrowserHost

        return BrowserHost(DEFAULT_PATH)
    from .wasmtime_host import WasmtimeHost

    return WasmtimeHost(DEFAULT_PATH)


def prepare() -> None:
    """Compile chat.wasm now, where somebody waits anyway, instead of at the first turn."""
    new_host().close()
