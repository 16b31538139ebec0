"""What a GPU's work space takes, beside what llama.cpp reserved on an NVIDIA H200 (CUDA 13, llama-cpp-python 0.3.36).

No GPU is needed here: the figures are those that it logged.
"""

from __future__ import annotations

from typing import Any

import pytest

from llama_bridge import OutOfMemory
from llama_bridge.models.fitting import Gpu, gpu_need, spare
from llama_bridge.models.memory_need import gpu_work, memory_need
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import KvType, ModelParams
from llama_bridge.system_memory import SystemMemory
from llama_bridge_native.fit import check_fit, settle
from tests.native.test_memory_need import MODELS
from tools.random_model import write_model

MIB, GIB = 1 << 20, 1 << 30
LARGE = SystemMemory(128 * GIB, 120 * GIB)
H200 = "CUDA0 (NVIDIA H200)"
LONG, SHORT = (131_072, 512, True), (4096, 64, True)

MEASURED: list[tuple[str, tuple[int, int, bool], KvType, int, float]] = [
    ("Llama 2 70B", LONG, "f16", 81, 344.01),
    ("Llama 2 70B", LONG, "f16", 80, 708.0),
    ("Llama 2 70B", LONG, "f16", 40, 964.0),
    ("Llama 2 70B", LONG, "q8_0", 81, 704.09),
    ("Llama 2 70B", LONG, "q8_0", 40, 996.07),
    ("Llama 2 70B", SHORT, "f16", 80, 166.0),
    ("Llama 2 7B", LONG, "f16", 33, 216.51),
    ("Llama 2 7B", LONG, "f16", 32, 2201.0),
    ("Llama 2 7B", LONG, "f16", 1, 3225.0),
    ("Llama 2 7B", LONG, "q8_0", 33, 2208.09),
    ("Llama 2 7B", LONG, "q8_0", 16, 3305.08),
    ("Llama 2 7B", SHORT, "f16", 33, 11.56),
    ("Llama 2 7B", SHORT, "f16", 16, 75.0),
    ("Llama 2 7B", (8192, 512, False), "f16", 33, 576.01),
    ("Llama 2 7B", (8192, 512, False), "f16", 16, 681.0),
    ("Llama 3 8B", LONG, "f16", 33, 258.5),
    ("Llama 3 8B", LONG, "f16", 16, 665.0),
    ("Llama 3 8B", LONG, "q8_0", 33, 672.09),
    ("Llama 3 8B", LONG, "q8_0", 32, 953.07),
    ("Llama 3 8B", LONG, "q8_0", 1, 1089.07),
    ("Qwen 2.5 0.5B", LONG, "f16", 25, 298.5),
    ("Qwen 2.5 0.5B", LONG, "f16", 1, 304.18),
    ("Qwen 2.5 0.5B", SHORT, "f16", 25, 37.31),
    ("Qwen 3 4B", LONG, "f16", 37, 301.75),
    ("Qwen 3 4B", LONG, "f16", 36, 471.52),
    ("Qwen 3 4B", LONG, "f16", 18, 631.52),
    ("LFM2 1.2B", LONG, "q8_0", 17, 400.04),
    ("LFM2 1.2B", LONG, "q8_0", 16, 453.0),
    ("LFM2 1.2B", LONG, "f16", 1, 402.25),
    ("Mamba 790M", LONG, "f16", 49, 70.5),
    ("Mamba 790M", LONG, "f16", 24, 75.05),
    ("Gemma 3 4B", LONG, "f16", 35, 204.52),
    ("Gemma 3 4B", LONG, "f16", 17, 793.25),
    ("Gemma 3 4B", LONG, "q8_0", 35, 790.05),
    ("Gemma 3 4B", LONG, "q8_0", 17, 1137.53),
]
"""Model; context, tokens at once, fused attention; type of the KV cache; layers on the GPU; MiB of its work space."""


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("hollow")
    for name, shape in MODELS.items():
        same: dict[str, Any] = {"quantization": "q4_0", "n_ctx_train": 131_072}
        if name == "Gemma 3 4B":  # with heads of 256, for which CUDA has fused attention
            same |= {"n_head": 10, "n_head_kv": 5}
        write_model(folder / name, hollow=True, **shape | same)
    return {name: open_model(folder / name) for name in MODELS}


def test_the_work_space_is_at_least_what_was_measured(hollow: dict[str, ModelFile]) -> None:
    for name, (n_ctx, at_once, flash_attn), kv, layers, mib in MEASURED:
        header = hollow[name].header
        on_cpu = header.number(f"{header.architecture}.block_count") + 1 - layers
        asked: dict[str, Any] = {"at_once": at_once, "flash_attn": flash_attn}
        asked |= {"type_k": kv, "type_v": kv}
        work = gpu_work(header, n_ctx, on_cpu, **asked)
        least = memory_need(header, n_ctx, **asked)
        assert work is not None
        assert least is not None
        case = (name, n_ctx, at_once, flash_attn, kv, layers, work / MIB)
        assert work > 0.98 * mib * MIB, case
        if on_cpu == 0:
            assert work < 1.1 * mib * MIB, case
        assert least.work * 9 // 10 <= mib * MIB, case  # what a refusal counts is certain


def test_a_model_whose_work_space_does_not_fit_is_refused(hollow: dict[str, ModelFile]) -> None:
    """With 577 MiB free, llama.cpp could place weights and KV cache, and then no work space."""
    qwen, wish = hollow["Qwen 2.5 0.5B"], ModelParams(n_gpu_layers=-1, n_ctx=4096)
    with pytest.raises(OutOfMemory, match="weights, KV cache and work space do not fit"):
        check_fit(qwen, wish, LARGE, [Gpu(H200, 577 * MIB, 140 * GIB)])
    check_fit(qwen, wish, LARGE, [Gpu(H200, 1676 * MIB, 140 * GIB)])  # that worked


def test_cuda_needs_room_for_itself_when_it_computes() -> None:
    demo, wish = open_model("demo"), ModelParams(n_gpu_layers=-1)
    with pytest.raises(OutOfMemory):
        check_fit(demo, wish, LARGE, [Gpu(H200, 32 * MIB, 140 * GIB)])
    check_fit(demo, wish, LARGE, [Gpu(H200, 178 * MIB, 140 * GIB)])  # that worked
    check_fit(demo, wish, LARGE, [Gpu("Vulkan0 (a card)", 32 * MIB, 140 * GIB)])


@pytest.mark.parametrize("free", [1, 2, 4, 8])
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_an_automatic_context_leaves_room_for_the_work_space(
    hollow: dict[str, ModelFile], free: int, kv: KvType
) -> None:
    gpu = Gpu(H200, free * GIB, 140 * GIB)
    for name in ("Llama 2 7B", "Llama 2 70B", "Llama 3 8B"):
        wish = ModelParams(n_ctx="auto", n_gpu_layers="auto", type_k=kv, type_v=kv)
        chosen = settle(hollow[name], wish, LARGE, [gpu])
        n_ctx, layers = chosen.asked_n_ctx, chosen.asked_gpu_layers
        assert layers > 0
        assert n_ctx >= 2048
        need = gpu_need(hollow[name].header, chosen, n_ctx, layers, 1)
        assert need <= gpu.free - spare(gpu.free), (name, n_ctx, layers)
        check_fit(hollow[name], chosen, LARGE, [gpu])
