"""What llama.cpp would compute for ever, or for minutes, ends in the sandbox as an error, even where nothing was checked before."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import EngineError, ModelLoadError, ModelParams
from llama_bridge.models.source import open_model
from llama_bridge_wasm import BACKEND
from tests.gguf_editing import Array, Gguf, edited_model

from .conftest import random_model

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("check_model", "check_fit", "check_tokenizer"):
        monkeypatch.setattr(f"llama_bridge_wasm.backend.{check}", lambda *_: None)


def test_rope_over_fewer_than_no_channels(tmp_path: Path) -> None:
    path = edited_model(
        tmp_path / "m.gguf",
        edit=lambda model: model.set("gemma3.rope.dimension_count_swa", 2**32 - 64, 4),
        seed=random_model(architecture="gemma3"),
    )
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=64))
    with pytest.raises(EngineError, match=r"llama\.wasm stopped"):
        engine.decode([1, 2, 3])
    engine.close()


def test_the_suffixes_of_a_word_of_5_000_characters(tmp_path: Path) -> None:
    words = [b"<unk>", *(b"<0x%02X>" % i for i in range(256)), b"x" * 5000]

    def edit(model: Gguf) -> None:
        model.set("tokenizer.ggml.model", b"plamo2", 8)
        model.set("tokenizer.ggml.tokens", Array(8, words), 9)
        model.set("tokenizer.ggml.scores", Array(6, [0.0] * 258), 9)
        model.set("tokenizer.ggml.token_type", Array(5, [2, *[6] * 256, 1]), 9)

    path = edited_model(tmp_path / "m.gguf", edit=edit)
    with pytest.raises(
        ModelLoadError, match="its words are too long for a table of their suffixes"
    ):
        BACKEND.load(open_model(path), ModelParams(n_ctx=64))
