"""Texts of any length in the guest, whose stack is fixed: tokens, or a refusal; never a trap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge.errors import InvalidInput
from llama_bridge.models.long_runs import MAX_RUN
from llama_bridge.models.source import open_model
from llama_bridge.params import ModelParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.wasm_engine import WasmEngine
from tests.gguf_editing import edited_model

PRES = (
    "tekken",
    "default",
    "gpt-4o",
    "deepseek-llm",
    "falcon",
    "viking",
    "superbpe",
    "exaone-moe",
    "llama-bpe",
)


@pytest.fixture(scope="module", params=PRES)
def engine(
    request: pytest.FixtureRequest, wasm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WasmEngine]:
    path = tmp_path_factory.mktemp("pre") / "m.gguf"
    edited_model(path, {"tokenizer.ggml.pre": request.param})
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=256))
    yield engine
    engine.close()


@pytest.mark.parametrize("unit", ["a", "A", "1", "é", "=", " ", ". "])
def test_the_longest_run_that_may_be_has_tokens(engine: WasmEngine, unit: str) -> None:
    text = "Start. " + unit * (MAX_RUN // len(unit) - 2) + "."
    try:
        tokens = engine.tokenize(text, add_special=False, parse_special=False)
    except InvalidInput:  # of those whose time grows with the square
        text = "Start. " + unit * (1000 // len(unit)) + "."
        tokens = engine.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(map(engine.token_bytes, tokens)).decode().strip() == text
    assert engine.tokenize("and goes on", add_special=False, parse_special=False)


def test_a_longer_one_is_refused_or_has_tokens(engine: WasmEngine) -> None:
    text = "a" * 1_000_000
    try:
        tokens = engine.tokenize(text, add_special=False, parse_special=False)
    except InvalidInput:
        tokens = []
    assert not tokens or len(b"".join(map(engine.token_bytes, tokens)).strip()) == len(text)
    assert engine.tokenize("and goes on", add_special=False, parse_special=False)
