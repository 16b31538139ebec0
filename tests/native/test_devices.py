"""GPUs are told from their names, and left alone where no layer goes there. These tests need none."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from llama_bridge import EngineError, LlamaBridge, ModelLoadError, OutOfMemory
from llama_bridge.models.source import open_model

H200 = "CUDA0 (NVIDIA H200)"
pytestmark = pytest.mark.usefixtures("native_backend")


@pytest.fixture
def full_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU whose memory is so full that CUDA cannot start: ggml then says that it has none."""
    from llama_bridge_native import devices

    monkeypatch.setattr(devices, "_KNOWN", [(1, 1, H200), (2, 0, "CPU (a processor)")])
    monkeypatch.setattr(devices, "_memory", lambda _: (0, 0))
    return devices


def test_without_layers_there_llama_cpp_is_given_no_gpu(
    full_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given one it computes long prompts on it, and ends the process if that has no memory free."""
    from llama_bridge_native.library import lib

    load, given = lib.llama_model_load_from_file, []

    def listen(path: bytes, options: Any) -> Any:
        listed = options.devices and ctypes.c_void_p.from_address(options.devices).value
        given.append("all" if options.devices is None else listed)
        return load(path, options)

    monkeypatch.setattr(lib, "llama_model_load_from_file", listen)
    for layers in (0, "auto"):
        with LlamaBridge("demo", backend="native", n_gpu_layers=layers) as llama:
            assert llama.generate("Hello!", max_tokens=4).text
    with pytest.raises(OutOfMemory, match=r"0\.0 MB that are free on CUDA0"):
        LlamaBridge("demo", backend="native", n_gpu_layers=-1)
    LlamaBridge("demo", backend="native", n_gpu_layers=-1, check_memory=False).close()
    assert given == [None, None, "all"]


def test_a_gpu_that_is_not_used_is_not_asked_for_its_memory(
    full_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question starts CUDA, which takes 524 MiB of an H200."""

    def ask(_: Any) -> tuple[int, int]:
        raise AssertionError("the GPU was asked")

    monkeypatch.setattr(full_gpu, "_memory", ask)
    with LlamaBridge("demo", backend="native") as llama:
        assert llama.info.gpus == (H200,)
        assert llama.info.n_gpu_layers == 0


def test_a_forked_process_is_refused_where_there_are_gpus(
    full_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured with CUDA: llama.cpp ended it with SIGABRT, or it waited forever."""
    monkeypatch.setattr(full_gpu, "_process", os.getpid() + 1)
    for layers in (0, -1, "auto"):
        with pytest.raises(EngineError, match=r"forked after llama\.cpp had found a GPU"):
            LlamaBridge("demo", backend="native", n_gpu_layers=layers)
    monkeypatch.setattr(full_gpu, "_KNOWN", full_gpu._KNOWN[1:])
    LlamaBridge("demo", backend="native").close()


WITHOUT_ROOM = {
    "weights": [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4026.83 MiB on device 0: cudaMalloc failed: out of memory",
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 4222435328",
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        "llama_model_load_from_file_impl: failed to load model",
    ],
    "work space": [
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 298.50 MiB on device 0: cudaMalloc failed: out of memory",
        "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 312999936",
        "graph_reserve: failed to allocate compute buffers",
        "llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers",
    ],
}
"""What llama.cpp logged on an H200."""


@pytest.mark.parametrize("lines", WITHOUT_ROOM.values(), ids=WITHOUT_ROOM)
def test_a_load_that_a_gpu_had_no_room_for_says_so(full_gpu: Any, lines: list[str]) -> None:
    from llama_bridge_native.library import LoggedErrors
    from llama_bridge_native.loading import _refusal

    def refusal(name: str) -> ModelLoadError:
        errors = LoggedErrors()
        for line in lines:
            errors.hear(line.replace("CUDA0", name))
        return _refusal(open_model("demo"), errors, 1)

    error = refusal("CUDA0")
    assert isinstance(error, OutOfMemory)
    assert "more memory than is free on CUDA0 (NVIDIA H200)" in error.reason
    assert "fewer n_gpu_layers" in error.reason
    assert not isinstance(refusal("CPU"), OutOfMemory)
