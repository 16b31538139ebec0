"""What an encoder's header promises is held, or the model is refused before llama.cpp ends the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llama_bridge import InvalidModel, ModelParams
from llama_bridge.models.pooling import check_pooling
from llama_bridge.models.source import open_model
from tests.gguf_editing import Gguf
from tests.making import MakeModel


@pytest.mark.parametrize(
    ("architecture", "key", "value", "told"),
    [
        ("modern-bert", "attention.head_count_kv", 0, "head_count_kv is 0"),
        ("gemma-embedding", "attention.sliding_window_pattern", 3, "pattern is 3 in 2 layers"),
        ("gemma-embedding", "pooling_type", 7, "pooling_type is 7"),
        ("gemma-embedding", "embedding_length_out", 32, "embedding_length_out is 32"),
        ("modern-bert", "embedding_length_out", 32, "embedding_length_out is 32"),
        ("modern-bert", "pooling_type", 4, "no classifier head"),
    ],
)
def test_what_would_end_llama_cpp_is_refused(
    make_model: MakeModel, tmp_path: Path, architecture: str, key: str, value: int, told: str
) -> None:
    given: dict[str, Any] = {"architecture": architecture, "pooling": "mean"}
    model = Gguf(make_model(**given))
    check_pooling(open_model(make_model(**given)), ModelParams())
    model.set(f"{architecture}.{key}", value)
    wrong = open_model(model.write(tmp_path / "wrong.gguf"))
    with pytest.raises(InvalidModel, match=told):
        check_pooling(wrong, ModelParams())
