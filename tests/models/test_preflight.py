"""Hostile models are refused in words; none ends the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import InvalidModel, ModelParams
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import ModelFile, open_model
from tests.gguf_editing import Array, Gguf, edited_model

ROOT = Path(__file__).parents[2]
Edit = Callable[[Gguf], None]


def word_twice(model: Gguf) -> None:
    model.words()[301] = model.words()[300]


def word_twice_up_to_a_zero(model: Gguf) -> None:
    model.words()[301] = model.words()[300] + b"\0more"


def typed(name: str, type_: int) -> Edit:
    return lambda model: model.tensors[name].retype(type_)


def value(key: str, number: object, kind: int | None = None) -> Edit:
    return lambda model: model.set(key, number, kind)


LLAMA: dict[str, tuple[Edit, str]] = {
    "word twice": (word_twice, "same text"),
    "word twice up to a zero": (word_twice_up_to_a_zero, "same text"),
    "no tokenizer": (value("tokenizer.ggml.model", b"none"), "no words"),
    "tokenizer of rwkv": (value("tokenizer.ggml.model", b"rwkv"), "single bytes"),
    "tokenizer of llama": (value("tokenizer.ggml.model", b"llama"), "single bytes"),
    "tokenizer of bert": (value("tokenizer.ggml.model", b"bert"), "BERT"),
    "matrix of i32": (typed("blk.0.ffn_up.weight", 26), "cannot compute"),
    "matrix of i8": (typed("blk.0.ffn_up.weight", 24), "cannot compute"),
    "matrix of f64": (typed("blk.0.ffn_up.weight", 28), "cannot compute"),
    "matrix of q8_1": (typed("blk.0.ffn_up.weight", 9), "cannot compute"),
    "norm of f16": (typed("blk.1.attn_norm.weight", 1), "not F32"),
    "norm of bf16": (typed("blk.1.attn_norm.weight", 30), "not F32"),
    "experts used": (value("llama.expert_used_count", 2), "expert_used_count is 2"),
    "experts": (value("llama.expert_count", 17), "expert_used_count is 0"),
    "many experts": (value("llama.expert_count", 100_000), "expert_count is 100000"),
    "expert groups": (value("llama.expert_group_count", 2), "expert_group_count is 2"),
    "draft layers": (value("llama.nextn_predict_layers", 15), "nextn_predict_layers is 15"),
    "rope": (value("llama.rope.dimension_count", 4096), "dimension_count is 4096"),
    "odd rope": (value("llama.rope.dimension_count", 7), "dimension_count is 7"),
    "heads": (value("llama.attention.head_count_kv", 4), "head_count_kv is 4|head_count_kv"),
    "alignment": (value("general.alignment", 4), "alignment is 4"),
}


def check(model: ModelFile) -> None:
    """As the backends do."""
    check_model(model, ModelParams())


@pytest.mark.parametrize("case", LLAMA)
def test_what_llama_cpp_takes_for_granted_is_checked(case: str, tmp_path: Path) -> None:
    edit, says = LLAMA[case]
    model = open_model(edited_model(tmp_path / "m.gguf", edit=edit))
    with pytest.raises(InvalidModel, match=says):
        check(model)


OTHERS: dict[str, tuple[str, Edit, str]] = {
    "convolution of f16": ("mamba", typed("blk.1.ssm_conv1d.weight", 1), "not F32"),
    "short convolution of f16": ("lfm2", typed("blk.0.shortconv.conv.weight", 1), "not F32"),
    "rope sections": (
        "qwen2vl",
        lambda model: model.set("qwen2vl.rope.dimension_sections", Array(4, [64] * 4), 9),
        "dimension_sections",
    ),
    "window": ("gemma3", value("gemma3.attention.sliding_window", 1 << 31), "sliding_window"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_architectures_too(case: str, tmp_path: Path) -> None:
    from tools.random_model import cached_model  # numpy: not in a page

    architecture, edit, says = OTHERS[case]
    seed = cached_model(architecture=architecture)
    with pytest.raises(InvalidModel, match=says):
        check_model(
            open_model(edited_model(tmp_path / "m.gguf", edit=edit, seed=seed)), ModelParams()
        )


def test_models_that_are_well_pass() -> None:
    from tools.random_model import cached_model  # numpy: not in a page

    check(open_model("demo"))
    for architecture in ("llama", "qwen2", "qwen2vl", "gemma3", "mamba", "lfm2"):
        check(open_model(cached_model(architecture=architecture)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "emscripten", reason="starts a process")
def test_random_mutants_end_no_process() -> None:
    command = [sys.executable, "-m", "tests.models.mutants", "native", "0", "150"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-500:]}"
