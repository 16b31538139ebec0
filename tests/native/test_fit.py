"""What cannot fit this machine is refused before it is read; "auto" takes what fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, OutOfMemory
from llama_bridge.models.fitting import NATIVE, Gpu, copied_weights, need_of
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.params import ModelParams
from llama_bridge.system_memory import SystemMemory, system_memory
from llama_bridge_native import BACKEND
from llama_bridge_native.fit import check_fit, settle
from tools.random_model import write_model

GB = 1 << 30
LLAMA_3: dict[str, Any] = {
    "vocab": "llama-bpe",
    "n_layer": 32,
    "n_embd": 4096,
    "n_head": 32,
    "n_head_kv": 8,
    "n_ff": 14336,
    "n_ctx_train": 131_072,
}


@pytest.fixture(scope="module")
def llama_3(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A file of 4.5 GB that takes no room."""
    path = tmp_path_factory.mktemp("fit") / "llama-3.gguf"
    write_model(path, hollow=True, quantization="q4_0", **LLAMA_3)
    return open_model(path)


def refused(model: ModelFile, here: SystemMemory, *gpus: Gpu, **settings: Any) -> OutOfMemory:
    with pytest.raises(OutOfMemory) as caught:
        check_fit(model, ModelParams(**settings), here, gpus)
    return caught.value


def test_a_model_larger_than_this_machine_is_refused_before_it_is_read(
    native_backend: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = system_memory().total
    assert total is not None
    path = tmp_path / "huge.gguf"
    n_layer = 2 * total // (4096 * 4096 * 4 * 3) + 1
    if n_layer > 500:
        pytest.skip("no model is that large")
    shape = LLAMA_3 | {"n_layer": n_layer, "n_ff": 14336}
    write_model(path, hollow=True, quantization="f16", **shape)

    def must_not_open(_file: ModelFile) -> Any:
        raise AssertionError("the file was opened")

    monkeypatch.setattr(ModelFile, "open", must_not_open)
    with pytest.raises(OutOfMemory, match=r"Load a smaller model\. check_memory=False") as caught:
        LlamaBridge(path, backend="native")
    assert caught.value.needed is not None
    assert caught.value.needed > total == caught.value.limit
    assert caught.value.n_ctx == 0


def test_the_message_has_the_numbers_and_a_context_that_fits(llama_3: ModelFile) -> None:
    here = SystemMemory(12 * GB, 11 * GB)
    error = refused(llama_3, here, n_ctx=131_072)
    assert "weights of 4.52 GB, a KV cache of 17.18 GB for 131,072 tokens" in error.reason
    assert "this machine has 12.88 GB. Load it with a smaller n_ctx (" in error.reason
    assert 'or with type_k="q8_0", type_v="q8_0" and a smaller n_ctx (' in error.reason
    assert error.n_ctx
    check_fit(llama_3, ModelParams(n_ctx=error.n_ctx), here)
    refused(llama_3, here, n_ctx=error.n_ctx + 256)


def test_a_container_is_told_from_a_machine(llama_3: ModelFile) -> None:
    assert (
        "this container may use 4.29 GB" in refused(llama_3, SystemMemory(4 * GB, GB, True)).reason
    )


def test_weights_may_be_paged_but_not_the_cache(llama_3: ModelFile) -> None:
    check_fit(llama_3, ModelParams(n_ctx=4096), SystemMemory(16 * GB, 6 * GB))
    error = refused(llama_3, SystemMemory(32 * GB, 6 * GB), n_ctx=65_536)
    assert "and 6.44 GB are free, into which cache" in error.reason
    assert error.limit == 6 * GB


def test_the_check_can_be_switched_off(llama_3: ModelFile) -> None:
    check_fit(llama_3, ModelParams(n_ctx=1 << 24, check_memory=False), SystemMemory(1, 1))
    with LlamaBridge("demo", backend="native", check_memory=False) as llama:
        assert llama.info.n_ctx == 1024


def test_a_gpu_takes_what_it_can(llama_3: ModelFile) -> None:
    here, gpu = SystemMemory(4 * GB, 3 * GB), Gpu("CUDA0 (a card)", 8 * GB, 8 * GB)
    refused(llama_3, here, gpu)  # no layer is there
    check_fit(llama_3, ModelParams(n_gpu_layers=-1), here, [gpu])
    error = refused(llama_3, here, Gpu("CUDA0 (a card)", 3 * GB, 8 * GB), n_gpu_layers=-1)
    assert "3.22 GB that are free on CUDA0 (a card)" in error.reason
    assert 'n_gpu_layers="auto"' in error.reason
    shared = Gpu("Metal", 3 * GB, 3 * GB, is_shared=True)
    assert "this machine has 4.29 GB" in refused(llama_3, here, shared, n_gpu_layers=1).reason


def test_auto_takes_what_passes_the_check(llama_3: ModelFile) -> None:
    wish = ModelParams(n_ctx="auto", n_gpu_layers="auto")
    for available in (5, 6, 8, 12, 20):
        for gpus in ([], [Gpu("GPU", 2 * GB, 4 * GB)], [Gpu("GPU", 9 * GB, 9 * GB)]):
            here = SystemMemory(24 * GB, available * GB)
            chosen = settle(llama_3, wish, here, gpus)
            assert isinstance(chosen.n_ctx, int)
            assert 2048 <= chosen.n_ctx <= 131_072
            assert bool(gpus) == (chosen.n_gpu_layers != 0)
            check_fit(llama_3, chosen, here, gpus)


def test_auto_on_this_machine(native_backend: None) -> None:
    with LlamaBridge("demo", backend="native", n_ctx="auto", n_gpu_layers="auto") as llama:
        assert llama.info.n_ctx == 1024
        assert (llama.info.n_gpu_layers > 0) == bool(llama.info.gpus)
        assert llama.generate("Hello!", max_tokens=8).text


def test_a_context_as_long_as_free_memory_allows(native_backend: None, tmp_path: Path) -> None:
    """The demo claims to be trained with 16 million tokens; nobody has that much memory free."""
    from tests.gguf_editing import edited_model

    here = system_memory()
    assert here.available is not None
    model = edited_model(tmp_path / "m.gguf", {"llama.context_length": 1 << 27})
    file = open_model(model)
    chosen = settle(file, ModelParams(n_ctx="auto"), SystemMemory(here.total, GB))
    need = need_of(file.header, ModelParams(), NATIVE, chosen.asked_n_ctx)
    assert need is not None
    assert 0.99 * (GB - 256 * (1 << 20)) < need.total <= GB - 256 * (1 << 20)
    with LlamaBridge(model, backend="native", n_ctx=chosen.n_ctx) as llama:
        assert llama.info.n_ctx == chosen.n_ctx


def test_ggml_tells_of_its_devices(native_backend: None) -> None:
    from llama_bridge_native.devices import devices, gpus

    found = devices()
    cpu = next(device for device in found if device[0] == 0)
    assert cpu[1].startswith("CPU")
    if sys.platform == "linux":
        assert cpu[3] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert len(gpus()) <= sum(device[0] in (1, 2) for device in found)


_WORKER = """
import json, re, sys
from llama_bridge import ModelParams
from llama_bridge.models.source import open_model
from llama_bridge_native import BACKEND

def used():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

BACKEND.load(open_model("demo"), ModelParams(n_ctx=256)).close()
before = used()
engine = BACKEND.load(open_model(sys.argv[1]), ModelParams(n_ctx=256))
print(json.dumps(used() - before))
engine.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_copies_of_weights_are_those_that_llama_cpp_makes(
    native_backend: None, tmp_path: Path
) -> None:
    cpu = Path("/proc/cpuinfo").read_text()
    if " avx2 " not in cpu and " asimddp " not in cpu:
        pytest.skip("this CPU has no instructions for that")
    shape: dict[str, Any] = {"vocab": "llama-spm", "n_layer": 6, "n_embd": 1024, "n_ff": 4096}
    taken: dict[str, int] = {}
    counted: dict[str, int] = {}
    for quantization in ("q4_0", "q4_k", "f16"):
        path = tmp_path / f"{quantization}.gguf"
        write_model(path, quantization=quantization, **shape)
        command = [sys.executable, "-c", _WORKER, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        taken[quantization] = json.loads(done.stdout)
        counted[quantization] = copied_weights(open_model(path).header)
    assert counted["f16"] == 0
    assert counted["q4_0"] > 40_000_000
    for quantization in ("q4_0", "q4_k"):
        more = taken[quantization] - taken["f16"]
        assert more == pytest.approx(counted[quantization], abs=6_000_000), (taken, counted)


def test_the_backend_itself_takes_auto_and_refuses(
    llama_3: ModelFile, native_backend: None
) -> None:
    engine = BACKEND.load(open_model("demo"), ModelParams(n_ctx="auto"))
    assert engine.info.n_ctx == 1024
    engine.close()
    with pytest.raises(OutOfMemory):
        BACKEND.load(llama_3, ModelParams(n_ctx=1 << 24))
