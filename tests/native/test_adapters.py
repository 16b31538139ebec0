"""LoRA adapters on native: what raw llama.cpp computes with them, and what models do into which they were merged."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from llama_bridge import Engine, EngineBackend, ModelParams, registry
from llama_bridge.models.adapter import GivenAdapter, check_given, read_adapters
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.gguf_editing import EditedTensor, Gguf
from tests.making import MakeModel

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native.library import lib

Arrays = dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
"""By the tensor that is changed: A, rank by columns, and B, rows by rank, as PEFT has them."""

PROMPT = [1, 300, 17, 4000, 33, 9, 512, 77, 1234]
PARAMS = ModelParams(n_ctx=256, n_batch=32, n_threads=1)
_RANK = 4


def logits(engine: Engine) -> list[float]:
    engine.clear()
    engine.decode(PROMPT)
    return [*engine.logits()]


def computed(model: Path, *adapters: GivenAdapter) -> list[float]:
    """The logits of a model with adapters."""
    (backend,) = registry.candidates("native")
    assert isinstance(backend, EngineBackend)
    engine = backend.load(open_model(model), PARAMS)
    try:
        engine.set_adapters(read_adapters(check_given(adapters)))
        return logits(engine)
    finally:
        engine.close()


def distance(some: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


def raw(model: Path, *adapters: tuple[Path, float]) -> list[float]:
    """The same by llama.cpp's own calls."""
    path = str(model).encode()
    options = lib.llama_model_default_params()
    options.load_mode = lib.LLAMA_LOAD_MODE_MMAP
    loaded = lib.llama_model_load_from_file(path, options)
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max = 256, 32, 32, 1
    settings.n_threads = settings.n_threads_batch = 1
    settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = lib.llama_init_from_model(loaded, settings)
    handles = [lib.llama_adapter_lora_init(loaded, str(file).encode()) for file, _ in adapters]
    kind: Any = lib.llama_adapter_lora_p_ctypes * len(handles)
    scales = (ctypes.c_float * len(handles))(*(scale for _, scale in adapters))
    lib.llama_set_adapters_lora(context, kind(*handles), len(handles), scales)
    tokens = (ctypes.c_int32 * len(PROMPT))(*PROMPT)
    assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(PROMPT))) == 0
    n = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(loaded))
    found = lib.llama_get_logits_ith(context, -1)[:n]
    lib.llama_free(context)
    lib.llama_model_free(loaded)
    return list(found)


# models of plain numbers, and what they are with an adapter merged into their weights


def in_f32(source: Path, path: Path) -> Gguf:
    """A model whose weights are all F32, written to ``path``."""
    model = Gguf(source)
    for tensor in model.tensors.values():
        if tensor.type == 1:
            tensor.data = np.frombuffer(tensor.data, np.float16).astype(np.float32).tobytes()
            tensor.type = 0
    model.write(path)
    return model


def change(model: Gguf, names: Sequence[str], seed: int = 5) -> Arrays:
    """A random change of these weights."""
    random = np.random.default_rng(seed)
    found: Arrays = {}
    for name in names:
        columns, rows, *experts = model.tensors[name].shape
        a = random.standard_normal((*experts[::-1], _RANK, columns)) / columns**0.5
        b = random.standard_normal((*experts[::-1], rows, _RANK)) / 4
        found[name] = a.astype(np.float32), b.astype(np.float32)
    return found


def write(path: Path, arrays: Arrays, alpha: float = 8.0) -> Path:
    """An adapter as llama.cpp's ``convert_lora_to_gguf.py`` writes it, by the same package."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, (a, b) in arrays.items():
        turned = name == "token_embd.weight"  # "flipped" there: A is looked up by token
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(b if turned else a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(a.T if turned else b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def merged(source: Path, path: Path, arrays: Arrays, factor: float) -> Path:
    """A model into which ``factor`` times B A was added."""
    model = Gguf(source)
    for name, (a, b) in arrays.items():
        tensor = model.tensors[name]
        weights = np.frombuffer(tensor.data, np.float32).reshape(tensor.shape[::-1])
        tensor.data = (weights + np.float32(factor) * (b @ a)).astype(np.float32).tobytes()
    return model.write(path)


@pytest.fixture
def plain(make_model: MakeModel, tmp_path: Path) -> Path:
    path = tmp_path / "plain.gguf"
    in_f32(make_model(), path)
    return path


ATTENTION = [f"blk.{i}.attn_{side}.weight" for i in range(2) for side in ("q", "k", "v", "output")]
FEED_FORWARD = ["blk.0.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"]
ENDS = ["token_embd.weight", "output.weight"]


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.5])
def test_an_adapter_gives_the_same_bits_as_in_raw_llama_cpp(
    make_model: MakeModel, tmp_path: Path, scale: float
) -> None:
    model = make_model(quantization="q4_0")
    adapter = write_adapter(tmp_path / "a.gguf", open_model(model), changes=lambda _: True)
    assert computed(model, (adapter, scale)) == raw(model, (adapter, scale))
    assert distance(computed(model, (adapter, scale)), computed(model)) > 0.1


@pytest.mark.parametrize(
    ("names", "alpha", "scale"),
    [
        (ATTENTION, 8.0, 1.0),
        (FEED_FORWARD, 2.0, 1.0),
        (ENDS, 8.0, 0.5),
        (ATTENTION + FEED_FORWARD + ENDS, 2.0, 0.5),
        (ATTENTION, 0.0, 1.0),
    ],
    ids=["attention", "feed-forward", "ends", "all", "without alpha"],
)
def test_an_adapter_is_as_if_it_were_merged_into_the_weights(
    plain: Path, tmp_path: Path, names: list[str], alpha: float, scale: float
) -> None:
    arrays = change(Gguf(plain), names)
    adapter = write(tmp_path / "a.gguf", arrays, alpha)
    factor = scale * alpha / _RANK if alpha else scale
    expected = computed(merged(plain, tmp_path / "merged.gguf", arrays, factor))
    without = distance(expected, computed(plain))
    assert distance(computed(plain, (adapter, scale)), expected) < 1e-3 < without / 100


def test_adapters_add_up(plain: Path, tmp_path: Path) -> None:
    one, two = change(Gguf(plain), ATTENTION), change(Gguf(plain), ATTENTION[:3], seed=6)
    a, b = write(tmp_path / "a.gguf", one), write(tmp_path / "b.gguf", two)
    both = merged(plain, tmp_path / "both.gguf", one, 8 / _RANK)
    merged(both, both, two, 0.25 * 8 / _RANK)
    assert distance(computed(plain, a, (b, 0.25)), computed(both)) < 1e-3


def test_an_adapter_that_is_given_twice_acts_with_the_sum_of_its_scales(
    plain: Path, tmp_path: Path
) -> None:
    a = write(tmp_path / "a.gguf", change(Gguf(plain), ATTENTION))
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(a.read_bytes())
    assert computed(plain, (a, 0.5), (copy, 0.25)) == computed(plain, (a, 0.75))
    assert computed(plain, a, (copy, -1)) == computed(plain)


def test_the_scale_0_is_no_adapter(plain: Path, tmp_path: Path) -> None:
    a = write(tmp_path / "a.gguf", change(Gguf(plain), ATTENTION))
    assert computed(plain, (a, 0)) == computed(plain) == computed(plain, (a, 1e-60))


def mixture(plain: Path, path: Path) -> Path:
    """A mixture of four experts, of which two are used."""
    model = Gguf(plain)
    random = np.random.default_rng(3)
    for key, value in (("expert_count", 4), ("expert_used_count", 2)):
        model.set(f"llama.{key}", value)
    for i in range(2):
        gate = model.tensors[f"blk.{i}.ffn_gate.weight"].shape
        shapes = {"gate_inp": [gate[0], 4]}
        for side in ("gate", "up", "down"):
            shapes[f"{side}_exps"] = [*model.tensors.pop(f"blk.{i}.ffn_{side}.weight").shape, 4]
        for side, shape in shapes.items():
            name = f"blk.{i}.ffn_{side}.weight"
            values = random.standard_normal(shape[::-1]).astype(np.float32) / shape[0] ** 0.5
            model.tensors[name] = EditedTensor(name, shape, 0, values.tobytes())
    return model.write(path)


def test_experts_can_be_changed(plain: Path, tmp_path: Path) -> None:
    model = mixture(plain, tmp_path / "mixture.gguf")
    names = [f"blk.{i}.ffn_{side}_exps.weight" for i in range(2) for side in ("gate", "up", "down")]
    arrays = change(Gguf(model), [*names, "blk.0.ffn_gate_inp.weight"])
    adapter = write(tmp_path / "a.gguf", arrays)
    expected = computed(merged(model, tmp_path / "merged.gguf", arrays, 8 / _RANK))
    assert distance(computed(model, adapter), expected) < 1e-3 < distance(expected, computed(model))


@pytest.mark.parametrize(
    "retype",
    [lambda values: values.astype(np.float16), lambda values: values.astype(np.float32)],
    ids=["f16", "f32"],
)
def test_an_adapter_may_be_stored_in_half_precision(
    plain: Path, tmp_path: Path, retype: Callable[[Any], Any]
) -> None:
    arrays = {
        name: (retype(a), retype(b)) for name, (a, b) in change(Gguf(plain), ATTENTION).items()
    }
    adapter = write(tmp_path / "a.gguf", arrays)
    assert computed(plain, adapter) == raw(plain, (adapter, 1.0))
