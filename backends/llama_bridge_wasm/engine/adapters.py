"""The LoRA adapters of the loaded model that the guest holds (``wasm/shim/adapters.cpp``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from llama_bridge.errors import ModelLoadError, OutOfMemory
from llama_bridge.models.adapter import Adapter, check_unchanged

from .. import abi
from ..abi import Guest, Status
from .calls import Calls
from .marshal import Buffer, last_error

__all__ = ["LoadedAdapters"]

_MIB = 1 << 20
_WARNINGS, _ERRORS = 3, 4
_logger = logging.getLogger("llama_bridge.wasm")


class LoadedAdapters:
    """The guest's numbers of them, by the digest of the file.

    Args:
        guest: what holds them.
        calls: access to it.
        buffer: arguments.
    """

    def __init__(self, guest: Guest, calls: Calls, buffer: Buffer) -> None:
        self._guest = guest
        self._calls = calls
        self._buffer = buffer
        self._numbers: dict[str, int] = {}

    def load(self, adapters: Sequence[Adapter]) -> None:
        """Load those that are not there yet; after an error they are as before.

        Raises:
            InvalidModel: a file changed since it was checked.
            ModelLoadError: llama.cpp refused one; OutOfMemory: it does not fit.
            EngineError: its file could not be read.
        """
        here = set(self._numbers)
        try:
            for adapter in adapters:
                if adapter.sha256 not in self._numbers:
                    self._numbers[adapter.sha256] = self._load(adapter)
                    check_unchanged(adapter)
        except BaseException:
            self._free(set(self._numbers) - here)
            raise

    def _load(self, adapter: Adapter) -> int:
        file = adapter.file
        check_unchanged(adapter)  # in the guest, a file that is gone is a failure of the host
        self._calls.line_up()
        with self._calls.lock:
            self._guest.lend(file.open, file.header.file_size, file.path)
            try:
                path = self._buffer.put(abi.ADAPTER_PATH.encode() + b"\0")
                number = self._call_quietly("lb_adapter_load", path)
            finally:
                self._guest.take_back()
            if number >= 0:
                return number
            reason = last_error(self._guest)
            if number == Status.OUT_OF_MEMORY:
                raise OutOfMemory(
                    file.path,
                    f"the adapter's {file.header.file_size / _MIB:.0f} MiB do not fit beside the model "
                    f"({self._guest.memory_size / _MIB:.0f} MiB in use): load the model with a smaller n_ctx or a larger "
                    "memory_limit (4 GiB at most)",
                )
        raise ModelLoadError(file.path, f"llama.cpp could not load the adapter: {reason}")

    def _call_quietly(self, name: str, argument: int) -> int:
        """Call without the guest's warnings: there is one for each matrix that is packed."""
        if _logger.isEnabledFor(logging.DEBUG):
            return self._guest.call(name, argument)
        self._guest.call("lb_set_log_level", _ERRORS)
        result = self._guest.call(name, argument)
        self._guest.call("lb_set_log_level", _WARNINGS)
        return result

    def apply(self, adapters: Sequence[Adapter]) -> None:
        """Put loaded adapters in force in place of the others. With the lock held."""
        numbers = b"".join(
            self._numbers[adapter.sha256].to_bytes(4, "little") for adapter in adapters
        )
        scales = b"".join(abi.SCALE.pack(adapter.scale) for adapter in adapters)
        pointer = self._buffer.put(numbers + scales)
        self._calls.call("lb_adapters", pointer, pointer + len(numbers), len(adapters))

    def keep_only(self, adapters: Sequence[Adapter]) -> None:
        """Free the others, which must not be in force."""
        self._free(set(self._numbers) - {adapter.sha256 for adapter in adapters})

    def _free(self, digests: set[str]) -> None:
        for digest in digests:
            number = self._numbers.pop(digest)  # first: an interrupt leaves none that is freed
            self._calls.line_up()
            with self._calls.lock:
                self._calls.call("lb_adapter_free", number)
