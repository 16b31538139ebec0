"""The GPUs that this build of llama.cpp can use, and how much memory they have free: asked through ggml's device interface."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from llama_bridge.models.fitting import Gpu

from .library import lib

__all__ = ["Device", "devices", "gpus"]

_GPU, _INTEGRATED = 1, 2  # GGML_BACKEND_DEVICE_TYPE_*
_METAL = "MTL"

Device = tuple[int, str, int, int]
"""Kind of a device, its name, and bytes of its memory: free, and in total."""


def gpus() -> tuple[Gpu, ...]:
    """The GPUs on which llama.cpp puts layers: those with memory of their own, else an integrated one.

    On a Mac all memory is shared.
    """
    found = devices()
    chosen = [d for d in found if d[0] == _GPU] or [d for d in found if d[0] == _INTEGRATED][:1]
    return tuple(
        Gpu(name, free, total, kind == _INTEGRATED or name.upper().startswith((_METAL, "METAL")))
        for kind, name, free, total in chosen
    )


def devices() -> list[Device]:
    """All devices, the CPU among them; empty if this build of llama-cpp-python does not show its interface."""
    try:
        ask = _interface()
    except (AttributeError, OSError, StopIteration):
        return []
    found: list[Device] = []
    for i in range(ask.ggml_backend_dev_count()):
        device = ask.ggml_backend_dev_get(i)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ask.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        kind = int(ask.ggml_backend_dev_type(device))
        name = (ask.ggml_backend_dev_name(device) or b"").decode("utf-8", "replace")
        about = (ask.ggml_backend_dev_description(device) or b"").decode("utf-8", "replace")
        found.append((kind, f"{name} ({about})" if about else name, free.value, total.value))
    return found


class _Interface:
    """Functions by name, of one library or the other."""

    ggml_backend_dev_count: Any
    ggml_backend_dev_get: Any
    ggml_backend_dev_memory: Any
    ggml_backend_dev_type: Any
    ggml_backend_dev_name: Any
    ggml_backend_dev_description: Any


def _interface() -> _Interface:
    size, pointer = ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p
    kinds: dict[str, tuple[list[Any], Any]] = {
        "ggml_backend_dev_count": ([], ctypes.c_size_t),
        "ggml_backend_dev_get": ([ctypes.c_size_t], pointer),
        "ggml_backend_dev_memory": ([pointer, size, size], None),
        "ggml_backend_dev_type": ([pointer], ctypes.c_int),
        "ggml_backend_dev_name": ([pointer], ctypes.c_char_p),
        "ggml_backend_dev_description": ([pointer], ctypes.c_char_p),
    }
    made = _Interface()
    libraries = _libraries()
    for name, (arguments, result) in kinds.items():
        function = next(found[name] for found in libraries if hasattr(found, name))
        function.argtypes, function.restype = arguments, result
        setattr(made, name, function)
    return made


def _libraries() -> list[Any]:
    """The libraries in which these functions are. llama.cpp has loaded both, so this loads nothing twice."""
    folder = Path(lib.__file__).parent / "lib"
    return [
        lib._ctypes_extensions.load_shared_library(name, folder) for name in ("ggml", "ggml-base")
    ]
