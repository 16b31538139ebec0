"""The GPUs that this build of llama.cpp can use, and how much memory they have free: asked through ggml's device interface.

Asking for a GPU's memory starts its driver in this process, which takes memory of the GPU; what it is called costs nothing.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from llama_bridge.errors import EngineError
from llama_bridge.models.fitting import Gpu

from .library import lib

__all__ = ["Device", "devices", "gpu_names", "gpus", "refuse_fork"]

_GPU, _INTEGRATED = 1, 2  # GGML_BACKEND_DEVICE_TYPE_*
_METAL = "MTL"

Device = tuple[int, str, int, int]
"""Kind of a device, its name, and bytes of its memory: free, and in total."""

_Known = tuple[Any, int, str]
"""A device's handle, its kind, and its name."""


def gpus() -> tuple[Gpu, ...]:
    """The GPUs on which llama.cpp puts layers: those with memory of their own, else an integrated one.

    On a Mac all memory is shared. A GPU whose memory is so full that its driver cannot start has nothing free.
    """
    return tuple(
        Gpu(
            name,
            *_memory(handle),
            kind == _INTEGRATED or name.upper().startswith((_METAL, "METAL")),
        )
        for handle, kind, name in _chosen(_KNOWN)
    )


def gpu_names() -> tuple[str, ...]:
    """The names of :func:`gpus`."""
    return tuple(name for _, _, name in _chosen(_KNOWN))


def devices() -> list[Device]:
    """All devices, the CPU among them; empty if this build of llama-cpp-python does not show its interface."""
    return [(kind, name, *_memory(handle)) for handle, kind, name in _KNOWN]


def refuse_fork() -> None:
    """Refuse to load anything in a process that was forked after llama.cpp had found GPUs.

    Their drivers do not survive a fork, and llama.cpp asks every device of which kind it is, also to find the CPU. When a
    driver fails to answer, llama.cpp ends the process.

    Raises:
        EngineError: this is such a process.
    """
    if _process != os.getpid() and gpu_names():
        raise EngineError(
            "this process was forked after llama.cpp had found a GPU, and GPUs do not work after a fork. "
            'Start it in another way, as multiprocessing does with "spawn", or load the first model after the fork'
        )


def _chosen(known: list[_Known]) -> list[_Known]:
    own = [device for device in known if device[1] == _GPU]
    return own or [device for device in known if device[1] == _INTEGRATED][:1]


def _memory(handle: Any) -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _interface().ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def _find() -> list[_Known]:
    try:
        ask = _interface()
    except (AttributeError, OSError, StopIteration):
        return []
    found: list[_Known] = []
    for i in range(ask.ggml_backend_dev_count()):
        device = ask.ggml_backend_dev_get(i)
        name = (ask.ggml_backend_dev_name(device) or b"").decode("utf-8", "replace")
        about = (ask.ggml_backend_dev_description(device) or b"").decode("utf-8", "replace")
        kind = int(ask.ggml_backend_dev_type(device))
        found.append((device, kind, f"{name} ({about})" if about else name))
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
    """The libraries in which these functions are."""
    folder = Path(lib.__file__).parent / "lib"
    return [
        lib._ctypes_extensions.load_shared_library(name, folder) for name in ("ggml", "ggml-base")
    ]


_KNOWN = _find()
_process = os.getpid()
