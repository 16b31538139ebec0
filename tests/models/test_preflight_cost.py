"""The preflight costs little, and reads no weights: here there are none to read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from llama_bridge import ModelParams
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import open_model
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from tests.pace import idle_seconds


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a gigabyte that takes no room, with 151,936 words."""
    from tools.random_model import QWEN2_HALF_BILLION, write_model  # numpy: not in a page

    path = tmp_path_factory.mktemp("large") / "large.gguf"
    write_model(path, hollow=True, **(QWEN2_HALF_BILLION | {"quantization": "q8_0"}))
    assert path.stat().st_size > 500e6
    return path


def test_half_a_gigabyte_with_150_000_words_is_checked_in_no_time(large: Path) -> None:
    model = open_model(large)
    assert model.header.n_vocab > 150_000

    def check() -> None:
        check_model(model, ModelParams())
        check_tokenizer(model)

    # 35 ms alone on the machine that this was written on; "make bench" holds it to 50.
    assert idle_seconds(check) < 0.1


def test_it_takes_as_much_memory_as_the_words(large: Path) -> None:
    tracemalloc.start()
    try:
        model = open_model(large)
        check_model(model, ModelParams())
        check_tokenizer(model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
