"""The LoRA adapters of the loaded model that the guest holds (``wasm/shim/adapters.cpp``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from llama_bridge.errors import ModelLoadError, OutOfMemory
from llama_bridge.models.adapter import Adapter, check_unchanged
from llama_bridge.models.finite import refuse_not_finite
from llama_bridge.models.source import ModelFile

from .. import abi
from ..abi import Guest, Status
from .calls import Calls
from .marshal import Buffer, last_error
from .plans import bytes_of_plan, has_room

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
        model: the loaded model.
    """

    def __init__(self, guest: Guest, calls: Calls, buffer: Buffer, model: ModelFile) -> None:
        self._path = model.path
        self._model = model
        self._guest = guest
        self._calls = calls
        self._buffer = buffer
        self._numbers: dict[str, int] = {}

    def load(self, adapters: Sequence[Adapter]) -> None:
        """Load those that are not there yet; after an error they are as before.

        Raises:
            InvalidModel: a file changed since it was checked, or holds NaN or infinity.
            ModelLoadError: llama.cpp refused one; OutOfMemory: it does not fit.
            EngineError: its file could not be read.
        """
        here = set(self._numbers)
        try:
            self._check_room(adapters)
            for adapter in adapters:
                if adapter.sha256 not in self._numbers:
                    self._numbers[adapter.sha256] = self._load(adapter)
                    check_unchanged(adapter)
        except BaseException:
            self._free(set(self._numbers) - here)
            raise

    def _check_room(self, adapters: Sequence[Adapter]) -> None:
        """Refuse what would leave no memory for the next decode, where llama.cpp would end the guest.

        It then plans its graphs anew, for more nodes, and keeps the old plan meanwhile.
        """
        files = sum(
            adapter.file.header.file_size
            for adapter in adapters
            if adapter.sha256 not in self._numbers
        )
        needed = bytes_of_plan(self._model, adapters) + files
        self._calls.line_up()
        with self._calls.lock:
            if not has_room(self._guest, needed):
                raise OutOfMemory(
                    self._path,
                    f"other adapters need about {needed / _MIB:.0f} MiB beside the model "
                    f"({self._guest.memory_size / _MIB:.0f} MiB in use): load it with a smaller n_ctx, or with a larger "
                    "memory_limit (4 GiB at most)",
                )

    def _load(self, adapter: Adapter) -> int:
        file = adapter.file
        check_unchanged(adapter)  # in the guest, a file that is gone is a failure of the host
        refuse_not_finite(file)
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
                raise OutOfMemory(file.path, f"the adapter does not fit beside the model: {reason}")
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
