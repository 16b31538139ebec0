"""Arguments and results that do not fit an int: their way through guest memory."""

from __future__ import annotations

from llama_bridge.errors import EngineError

from ..abi import Guest

__all__ = ["Buffer", "as_pointer", "last_error"]


class Buffer:
    """One piece of guest memory for arguments and results, grown when more is asked for."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pointer = 0
        self._size = 0

    def reserve(self, size: int) -> int:
        """A pointer to at least ``size`` bytes; what was in them is lost."""
        if size > self._size:
            old, self._pointer, self._size = self._pointer, 0, 0
            self._guest.call(
                "lb_free", old
            )  # forgotten before: after an interrupt it is not freed again
            wanted = max(size, 4096)
            self._pointer = as_pointer(self._guest.call("lb_alloc", wanted))
            if self._pointer == 0:
                raise EngineError(f"llama.wasm has no room for {wanted} bytes of arguments")
            self._size = wanted
        return self._pointer

    def put(self, data: bytes) -> int:
        """A pointer to a copy of ``data``."""
        pointer = self.reserve(len(data))
        self._guest.write(pointer, data)
        return pointer


def as_pointer(result: int) -> int:
    """Results are signed; a pointer is not."""
    return result & 0xFFFFFFFF


def last_error(guest: Guest) -> str:
    """The words that go with the last status below zero."""
    pointer = as_pointer(guest.call("lb_last_error"))
    text = bytearray()
    while len(text) < 1 << 16:
        size = min(256, guest.memory_size - pointer - len(text))
        part = guest.read(pointer + len(text), size)
        end = part.find(0)
        text += part if end < 0 else part[:end]
        if end >= 0 or not part:
            break
    return text.decode("utf-8", "replace") or "no reason given"
