"""In llama.wasm a sequence in company has the bits that it has alone: its kernels add up in one order for any number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llama_bridge import ModelParams
from llama_bridge.models.source import open_model
from llama_bridge_wasm import BACKEND
from tools.random_model import Quantization, cached_model

if TYPE_CHECKING:
    from llama_bridge.engine import Engine

_N = 4


@pytest.mark.parametrize("format", ["f16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k"])
def test_logits_do_not_depend_on_company(format: Quantization) -> None:
    shape = {"vocab": "phi-3", "n_layer": 2, "n_embd": 256, "n_ff": 512}
    path: Path = cached_model(**shape, quantization=format)
    engine = BACKEND.load(open_model(path), ModelParams(n_ctx=512, n_parallel=_N))
    try:
        chance = np.random.default_rng(1)
        texts = [
            chance.integers(5, engine.info.n_vocab - 5, 20 + 3 * i).tolist() for i in range(_N)
        ]
        alone = [logits(engine, {i: text}) for i, text in enumerate(texts)]
        together = logits(engine, dict(enumerate(texts)))
        np.testing.assert_array_equal(together, np.concatenate(alone))
    finally:
        engine.close()


def logits(engine: Engine, texts: dict[int, Sequence[int]]) -> np.ndarray:
    """After each text's beginning, and after three more tokens, one at a time; all texts are evaluated together."""
    rows: dict[int, list[np.ndarray]] = {i: [] for i in texts}
    for i in texts:
        engine.sequences[i].clear()
    for at in (-4, -3, -2, -1):
        steps = [(i, text[:at] if at == -4 else text[at - 1 : at]) for i, text in texts.items()]
        engine.decode_together([(engine.sequences[i], step) for i, step in steps])
        for i in texts:
            rows[i].append(np.array(engine.sequences[i].logits()))
    return np.concatenate([np.array(rows[i]) for i in texts])
