"""Hostile models are refused in words. ``tests/fuzz/models`` shows that none ends the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import InvalidModel, ModelParams
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from tests.gguf_editing import Array, Gguf, edited_model
from tests.models.headers import gguf, text

Edit = Callable[[Gguf], None]


def word_twice(model: Gguf) -> None:
    model.words()[301] = model.words()[300]


def word_twice_up_to_a_zero(model: Gguf) -> None:
    model.words()[301] = model.words()[300] + b"\0more"


def typed(name: str, type_: int) -> Edit:
    return lambda model: model.tensors[name].retype(type_)


def shaped(name: str, *shape: int) -> Edit:
    def edit(model: Gguf) -> None:
        model.tensors[name].shape[:] = shape

    return edit


def named(name: str, other: str) -> Edit:
    def edit(model: Gguf) -> None:
        model.tensors[name].name = other

    return edit


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
    "a tensor of no elements": (shaped("output_norm.weight", 0), "shape"),
    "a long name": (named("output_norm.weight", "x" * 64), "63 bytes"),
    "five dimensions": (shaped("output_norm.weight", 192, 1, 1, 1, 1), "5 dimensions"),
    "alignment": (value("general.alignment", 4), "alignment is 4"),
}


def check(model: ModelFile) -> None:
    """As the backends do."""
    check_model(model, ModelParams())
    check_tokenizer(model)


@pytest.mark.parametrize("case", LLAMA)
def test_what_llama_cpp_takes_for_granted_is_checked(case: str, tmp_path: Path) -> None:
    edit, says = LLAMA[case]
    model = open_model(edited_model(tmp_path / "m.gguf", edit=edit))
    with pytest.raises(InvalidModel, match=says):
        check(model)


OTHERS: dict[str, tuple[str, Edit, str]] = {
    "convolution of f16": ("mamba", typed("blk.1.ssm_conv1d.weight", 1), "not F32"),
    "short convolution of f16": ("lfm2", typed("blk.0.shortconv.conv.weight", 1), "not F32"),
    "token types of f16": ("bert", typed("token_types.weight", 1), "not F32"),
    "lerp of f16": ("rwkv7", typed("blk.1.channel_mix_lerp_k.weight", 1), "not F32"),
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


ONE_ROW = ("cls.weight", "cls.output.weight", "blk.0.ffn_gate_inp_shexp.weight")


@pytest.mark.parametrize("name", ONE_ROW)
@pytest.mark.parametrize("type_", [1, 30, 8])  # F16, BF16, Q8_0
def test_a_matrix_of_one_row_may_be_written_as_a_vector(
    name: str, type_: int, tmp_path: Path
) -> None:
    """As llama-quantize writes the heads of rerankers."""

    def edit(model: Gguf) -> None:
        model.tensors["output_norm.weight"].name = name
        model.tensors["output_norm.weight"].retype(type_)

    check(open_model(edited_model(tmp_path / "m.gguf", edit=edit)))


def test_models_that_are_well_pass() -> None:
    from tools.random_model import cached_model  # numpy: not in a page
    from tools.random_model.architectures import ARCHITECTURES

    check(open_model("demo"))
    for architecture in ARCHITECTURES:
        check(open_model(cached_model(architecture=architecture)))


def test_two_of_a_name_are_refused(tmp_path: Path) -> None:
    path = edited_model(
        tmp_path / "m.gguf", edit=named("blk.0.ffn_up.weight", "blk.0.ffn_gate.weight")
    )
    with pytest.raises(InvalidModel, match=r"ffn_gate\.weight is there twice"):
        check(open_model(path))
    path.write_bytes(gguf(("general.name", text("one")), ("general.name", text("two"))))
    with pytest.raises(InvalidModel, match="is there twice: damaged, or not"):
        open_model(path)


@pytest.mark.parametrize("shift", [-32, 32])
def test_weights_that_overlap_or_leave_a_gap_are_refused(shift: int, tmp_path: Path) -> None:
    path = edited_model(tmp_path / "m.gguf")
    header = open_model(path).header
    begin, end = header.tensors_span
    tensor = header.tensors[3]
    table = path.read_bytes()[begin:end]
    old, new = ((tensor.offset + by).to_bytes(8, "little") for by in (0, shift))
    assert table.count(old) == 1
    path.write_bytes(path.read_bytes().replace(table, table.replace(old, new)))
    with pytest.raises(InvalidModel, match="begins at byte"):
        check(open_model(path))
