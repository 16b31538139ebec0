"""What ``llama.model`` tells of a model, from the file alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import ModelFile
from llama_bridge.models.ggml_types import GGML_TYPES, KV_TYPES
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeLlama
from tests.models.headers import U8, array, gguf, strings, text, u32


@pytest.fixture
def small(tmp_path: Path) -> ModelFile:
    """A vocabulary without weights."""
    path = tmp_path / "small-7b-Q8_0.gguf"
    path.write_bytes(
        gguf(
            ("general.file_type", u32(7)),
            ("llama.context_length", u32(4096)),
            ("tokenizer.ggml.tokens", strings([b"a", b"b"])),
            ("llama.flags", array(U8, 2, b"\0\1")),
            ("tokenizer.chat_template", text("{{ messages }}")),
        )
    )
    return open_model(path)


def test_the_demo_model_tells_what_it_is() -> None:
    model = open_model("demo")
    assert model.name == "llama-bridge demo"
    assert model.architecture == "llama"
    assert model.quantisation == "Q8_0"
    assert 1_000_000 < model.n_parameters < 3_000_000
    assert model.n_ctx_train == 1024
    assert model.chat_template
    assert model.metadata["general.architecture"] == "llama"
    assert model.metadata["llama.block_count"] == model.header.number("llama.block_count")


def test_a_vocabulary_has_no_quantisation_whatever_its_name_and_metadata_say(
    small: ModelFile,
) -> None:
    assert small.quantisation is None
    assert small.n_parameters == 0
    assert small.n_ctx_train == 4096


def test_the_metadata_are_what_is_one_value_and_nothing_can_change_them(small: ModelFile) -> None:
    assert dict(small.metadata) == {
        "general.architecture": "llama",
        "general.file_type": 7,
        "llama.context_length": 4096,
        "tokenizer.chat_template": "{{ messages }}",
    }
    changeable: Any = small.metadata
    with pytest.raises(TypeError):
        changeable["general.file_type"] = 8
    assert small.metadata is small.metadata


def test_a_loaded_model_tells_the_same() -> None:
    with FakeLlama(model="demo") as llama:
        assert llama.model.metadata == open_model("demo").metadata
        assert llama.model.architecture == "llama"
        assert copy.copy(llama.model).n_parameters == llama.model.n_parameters


def test_the_table_of_types_is_ggmls() -> None:
    import gguf as theirs  # and numpy: not in a page

    for number, (block, n_bytes) in (
        (int(kind), size) for kind, size in theirs.GGML_QUANT_SIZES.items()
    ):
        ours = GGML_TYPES[number]
        name = theirs.GGMLQuantizationType(number).name
        if name == "Q8_1":  # the package has ggml's size of long ago
            continue
        assert (ours.name, ours.block, ours.n_bytes) == (name, block, n_bytes)
    assert KV_TYPES == {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
