"""Passes arguments and results that do not fit an int through guest memory."""

from __future__ import annotations

from llama_bridge.errors import EngineError

from ..abi import Guest

__all__ = ["Buffer", "as_pointer", "last_error"]

_LONG = 1024
"""Bytes that are enough for a reason."""


class Buffer:
    """A block of guest memory for arguments and results that grows when needed."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pointer = 0
        self._size = 0

    def reserve(self, size: int) -> int:
        """Return a pointer to at least ``size`` bytes. Old content may be lost."""
        if size > self._size:
            old, self._pointer, self._size = self._pointer, 0, 0
            self._guest.call(
                "lb_free", old
            )  # the pointer is already cleared, so an interrupt cannot free it twice
            wanted = max(size, 4096)
            self._pointer = as_pointer(self._guest.call("lb_alloc", wanted))
            if self._pointer == 0:
                raise EngineError(f"llama.wasm has no memory for {wanted} bytes of arguments")
            self._size = wanted
        return self._pointer

    def put(self, data: bytes) -> int:
        """Copy ``data`` into the guest and return a pointer to it."""
        pointer = self.reserve(len(data))
        self._guest.write(pointer, data)
        return pointer


def as_pointer(result: int) -> int:
    """Results are signed; a pointer is unsigned."""
    return result & 0xFFFFFFFF


def last_error(guest: Guest) -> str:
    """The message of the last negative status. It may quote a model's metadata, which has a megabyte if the file is hostile."""
    pointer = as_pointer(guest.call("lb_last_error"))
    text = bytearray()
    while len(text) < _LONG:
        size = min(256, guest.memory_size - pointer - len(text))
        part = guest.read(pointer + len(text), size)
        end = part.find(0)
        text += part if end < 0 else part[:end]
        if end >= 0 or not part:
            break
    else:
        text += "…".encode()
    return text.decode("utf-8", "replace") or "no reason given"
