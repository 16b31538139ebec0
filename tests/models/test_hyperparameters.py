"""Numbers that llama.cpp asserts or divides by are refused by their key. The fuzzer found what each of them does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import InvalidModel, ModelParams
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import open_model
from tests.gguf_editing import Array, Gguf, edited_model

Edit = Callable[[Gguf], None]
U32, BOOL, STRING, ARRAY = 4, 7, 8, 9


def value(key: str, number: object, kind: int | None = None) -> Edit:
    return lambda model: model.set(key, number, kind)


def values(key: str, *numbers: int) -> Edit:
    return value(key, Array(U32, list(numbers)), ARRAY)


def without(tensor: str) -> Edit:
    def edit(model: Gguf) -> None:
        del model.tensors[tensor]

    return edit


def all_of(*edits: Edit) -> Edit:
    def edit(model: Gguf) -> None:
        for step in edits:
            step(model)

    return edit


def architecture(name: str, *edits: Edit) -> Edit:
    return all_of(lambda model: model.rename(name), *edits)


DEMO: dict[str, tuple[Edit, str]] = {
    "no layers": (value("llama.block_count", 0), "block_count is 0"),
    "too many layers": (value("llama.block_count", 513), "block_count is 513"),
    "an absurd width": (value("llama.embedding_length", 1 << 30), "embedding_length is 1073741824"),
    "an absurd head": (value("llama.attention.key_length", 1 << 31), "key_length is 2147483648"),
    "heads that do not divide": (value("llama.attention.head_count", 7), "does not divide"),
    "a head of no width": (value("llama.attention.head_count", 2**32 - 4), "head_count is"),
    "heads that differ": (
        values("llama.attention.head_count_kv", 6, 6, 6, 6, 3),
        "head_count_kv is not the same in all layers",
    ),
    "values shorter than keys": (
        value("llama.attention.value_length", 16),
        "key_length is 32, but attention.value_length is 16",
    ),
    "a cache of almost no layer": (
        architecture(
            "gemma4",
            value("gemma4.block_count", 5),
            value("gemma4.attention.shared_kv_layers", 4),
        ),
        "attention.shared_kv_layers is 4",
    ),
    "half a rope": (value("llama.rope.dimension_count", 16), "dimension_count is 16"),
    "a rope of nothing": (
        architecture("phi2", value("phi2.rope.dimension_count", 0)),
        "rope.dimension_count is 0",
    ),
    "an unknown scaling": (
        value("llama.rope.scaling.type", b"\xff", STRING),
        "rope.scaling.type is",
    ),
    "an infinite epsilon": (
        value("llama.attention.layer_norm_rms_epsilon", float("inf")),
        "epsilon is inf",
    ),
    "groups of all experts": (
        all_of(
            value("llama.expert_count", 4),
            value("llama.expert_used_count", 2),
            value("llama.expert_group_count", 4),
        ),
        "expert_group_count is 4",
    ),
    "no groups used": (
        all_of(
            value("llama.expert_count", 4),
            value("llama.expert_used_count", 2),
            value("llama.expert_group_count", 2),
        ),
        "expert_group_used_count is 0",
    ),
    "more experts in one layer": (
        all_of(value("llama.expert_count", 4), values("llama.expert_used_count", 2, 2, 2, 2, 5)),
        "expert_used_count is 5",
    ),
    "no language model": (architecture("clip"), "sees or hears"),
    "half a model": (architecture("eagle3"), "drafts for another model"),
    "experts missing": (architecture("smallthinker"), "expert_count is 0"),
    "positions without parts": (architecture("paddleocr"), "rope.dimension_sections"),
    "no step": (
        architecture("qwen3next", value("qwen3next.full_attention_interval", 0)),
        "full_attention_interval is 0",
    ),
    "an inner size": (
        architecture("jamba", value("jamba.ssm.inner_size", 192)),
        "ssm.inner_size is 192",
    ),
    "no heads where Q, K and V are one tensor": (
        architecture("modern-bert", value("modern-bert.attention.head_count", 0)),
        "head_count is 0",
    ),
    "keys longer than values, and a base for windows": (
        architecture(
            "modern-bert",
            value("modern-bert.attention.key_length", 96),
            value("modern-bert.rope.freq_base_swa", 1e4, 6),
        ),
        "key_length is 96",
    ),
    "a width divided by no heads": (
        architecture("olmo2", value("olmo2.attention.head_count", 0)),
        "head_count is 0",
    ),
    "a length divided by no experts": (architecture("qwen3next"), "expert_count is 0"),
    "no groups of states": (architecture("mamba2"), "ssm.time_step_rank is 0"),
    "keys that do not divide values": (
        architecture(
            "qwen35",
            value("qwen35.ssm.time_step_rank", 6),
            value("qwen35.ssm.group_count", 4),
            values("qwen35.rope.dimension_sections", 8, 4, 4, 0),
        ),
        "ssm.group_count is 4",
    ),
    "a window for no layer": (
        architecture(
            "gemma3",
            value("gemma3.attention.sliding_window", 16),
            value("gemma3.attention.sliding_window_pattern", Array(BOOL, [False] * 5), ARRAY),
        ),
        "no layer with a window",
    ),
    "a window of no tokens": (
        architecture("gemma2", value("gemma2.attention.sliding_window", 0)),
        "sliding_window is 0",
    ),
    "a window for every layer of an encoder": (
        architecture(
            "modern-bert",
            value("modern-bert.attention.sliding_window", 16),
            value("modern-bert.attention.sliding_window_pattern", Array(BOOL, [True] * 5), ARRAY),
        ),
        "no layer without a window",
    ),
    "no relative positions": (architecture("t5encoder"), "attn_rel_b.weight is missing"),
    "no Q, K and V": (
        architecture("phi3", without("blk.2.attn_k.weight")),
        "blk.2.attn_qkv.weight is missing",
    ),
    "heads of RWKV": (
        architecture("rwkv7", value("rwkv7.wkv.head_size", 31)),
        "wkv.head_size is 31",
    ),
    "heads of RWKV past whose end ggml reads and writes": (
        architecture("rwkv7", value("rwkv7.wkv.head_size", 32)),
        "wkv.head_size is 32, not a multiple of 64",
    ),
}


@pytest.mark.parametrize("case", DEMO)
def test_an_impossible_number_is_refused_by_its_key(case: str, tmp_path: Path) -> None:
    edit, says = DEMO[case]
    model = open_model(edited_model(tmp_path / "m.gguf", edit=edit))
    with pytest.raises(InvalidModel, match=says):
        check_model(model, ModelParams())


RIGHT: dict[str, Edit] = {
    "heads in a list": values("llama.attention.head_count_kv", 6, 6, 6, 6, 6),
    "one list longer than is kept in memory": values("llama.attention.head_count", *[6] * 100),
    "an own head size": all_of(
        value("llama.attention.key_length", 32), value("llama.attention.value_length", 32)
    ),
    "keys that nobody knows": all_of(
        value("llama.something.new", 0), value("general.x", b"\xff", STRING)
    ),
    "experts in one group": all_of(
        value("llama.expert_count", 8),
        value("llama.expert_used_count", 2),
        value("llama.expert_group_count", 1),
        value("llama.expert_group_used_count", 1),
    ),
    "experts by layer": all_of(
        value("llama.expert_count", 8), values("llama.expert_used_count", 2, 2, 4, 4, 2)
    ),
    "one expert, which is none": architecture(
        "hunyuan-dense", value("hunyuan-dense.expert_count", 1)
    ),
    "heads of RWKV": architecture("rwkv7", value("rwkv7.wkv.head_size", 64)),
    "smaller heads of RWKV 6": architecture("rwkv6", value("rwkv6.wkv.head_size", 32)),
    "half a rope where that is right": architecture("phi2", value("phi2.rope.dimension_count", 16)),
    "no rope where that is right": architecture("bert", value("bert.rope.dimension_count", 0)),
    "layers without heads": architecture(
        "deci",
        values("deci.attention.head_count", 6, 0, 6, 6, 0),
        values("deci.attention.head_count_kv", 6, 0, 3, 6, 0),
    ),
    "layers without keys": architecture(
        "granitehybrid",
        values("granitehybrid.attention.head_count_kv", 0, 0, 6, 0, 0),
        value("granitehybrid.ssm.inner_size", 384),
        value("granitehybrid.ssm.time_step_rank", 6),
        value("granitehybrid.ssm.group_count", 1),
    ),
    "a window of no tokens, which is none": architecture(
        "gemma3", value("gemma3.attention.sliding_window", 0)
    ),
    "a list of layers without a window, and no window": architecture(
        "laguna",
        value("laguna.attention.sliding_window_pattern", Array(BOOL, [False] * 5), ARRAY),
    ),
    "other heads in a window": architecture(
        "exaone4",
        value("exaone4.attention.key_length_swa", 16),
        value("exaone4.rope.dimension_count_swa", 16),
    ),
    "of an architecture that is not known yet": architecture(
        "tomorrow", values("tomorrow.attention.head_count_kv", 1, 2, 3, 6, 6)
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_real_models_have_passes(case: str, tmp_path: Path) -> None:
    check_model(open_model(edited_model(tmp_path / "m.gguf", edit=RIGHT[case])), ModelParams())
