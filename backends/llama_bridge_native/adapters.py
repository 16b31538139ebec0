"""The LoRA adapters of one model that llama.cpp holds. Freeing the model frees them, too."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

from llama_bridge.errors import InvalidInput, ModelLoadError
from llama_bridge.models.adapter import Adapter, check_unchanged
from llama_bridge.models.finite import refuse_not_finite

from .library import LoggedErrors, lib

__all__ = ["LoadedAdapters"]

_Handle = lib.llama_adapter_lora_p_ctypes


class LoadedAdapters:
    """Handles by the digest of the file.

    Args:
        model: llama.cpp's model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._handles: dict[str, Any] = {}

    def load(self, adapters: Sequence[Adapter]) -> None:
        """Load those that are not here yet; after an error they are as before.

        Raises:
            InvalidInput: one is not a file.
            InvalidModel: a file changed since it was checked, or holds NaN or infinity.
            ModelLoadError: llama.cpp refused one.
        """
        here = set(self._handles)
        try:
            for adapter in adapters:
                if adapter.sha256 not in self._handles:
                    self._handles[adapter.sha256] = self._load(adapter)
        except BaseException:
            self._free(set(self._handles) - here)
            raise

    def _load(self, adapter: Adapter) -> Any:
        path = adapter.file.path
        if adapter.file.source is not None:
            raise InvalidInput(
                f"{adapter.name}: the native backend loads only files; give the path of one"
            )
        refuse_not_finite(adapter.file)
        with LoggedErrors(quiet=True) as errors:  # one warning for each matrix that is packed
            handle = lib.llama_adapter_lora_init(self._model, os.fsencode(path))
            errors.reraise()
        if not handle:
            raise ModelLoadError(path, f"llama.cpp could not load the adapter: {errors}")
        try:
            check_unchanged(adapter)
        except BaseException:
            lib.llama_adapter_lora_free(handle)
            raise
        return handle

    def apply(self, context: Any, adapters: Sequence[Adapter]) -> None:
        """Put loaded adapters in force in a context."""
        n = len(adapters)
        handles = (_Handle * n)(*(self._handles[adapter.sha256] for adapter in adapters))
        scales = (ctypes.c_float * n)(*(adapter.scale for adapter in adapters))
        lib.llama_set_adapters_lora(context, handles, n, scales)

    def keep_only(self, adapters: Sequence[Adapter]) -> None:
        """Free the others, which must be in force nowhere."""
        self._free(set(self._handles) - {adapter.sha256 for adapter in adapters})

    def _free(self, digests: set[str]) -> None:
        for digest in digests:
            handle = self._handles.pop(
                digest
            )  # first: an interrupt must not leave a handle of what is freed
            lib.llama_adapter_lora_free(handle)
