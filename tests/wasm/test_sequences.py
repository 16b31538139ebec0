"""Several sequences of llama.wasm: what is computed in company has the bits of what is computed alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge.models.source import open_model
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.engine.wasm_engine import WasmEngine
from tools.random_model import write_model

N = 5
PROMPTS = [[3 + (7 * i + j * j) % 400 for j in range(40 + 9 * i)] for i in range(N)]


FORMATS = ["f16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k"]


@pytest.fixture(scope="module", params=FORMATS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.gguf"
    write_model(
        path,
        architecture="qwen2",
        seed=5,
        quantization=request.param,
        n_embd=256,  # a block of 256 goes into each row
        n_ff=512,
    )
    return path


@pytest.fixture(scope="module")
def engines(file: Path) -> Iterator[tuple[WasmEngine, WasmEngine]]:
    """One of a single sequence, and one of five in the same cells."""
    found = [
        BACKEND.load(open_model(str(file)), ModelParams(n_ctx=1024, n_threads=1, n_parallel=n))
        for n in (1, N)
    ]
    one, five = (engine for engine in found if isinstance(engine, WasmEngine))
    yield one, five
    one.close()
    five.close()


def alone(engine: WasmEngine, prompt: list[int], more: list[int]) -> list[bytes]:
    """The logits after the prompt, and after each further token."""
    engine.clear()
    engine.decode(prompt)
    found = [engine.logits().tobytes()]
    for token in more:
        engine.decode([token])
        found.append(engine.logits().tobytes())
    return found


def test_logits_in_company_are_bit_for_bit_those_alone(
    engines: tuple[WasmEngine, WasmEngine],
) -> None:
    one, five = engines
    more = [11, 12, 13, 14, 15, 16]
    expected = [alone(one, prompt, more) for prompt in PROMPTS]
    # Prompts in pieces beside each other, so that the cells of each lie between those of others.
    for start in range(0, 80, 10):
        pieces = [(s, p[start : start + 10]) for s, p in zip(five.sequences, PROMPTS, strict=True)]
        assert five.decode_together(pieces)
        for sequence, prompt, logits in zip(five.sequences, PROMPTS, expected, strict=True):
            if start < len(prompt) <= start + 10:
                assert sequence.logits().tobytes() == logits[0]
    for i, token in enumerate(more, 1):
        assert five.decode_together([(sequence, [token]) for sequence in five.sequences])
        for sequence, logits in zip(five.sequences, expected, strict=True):
            assert sequence.logits().tobytes() == logits[i]


def test_two_of_many_and_one_of_many_have_the_same_bits(
    engines: tuple[WasmEngine, WasmEngine],
) -> None:
    """Kernels for one, two, three and more rows give each row the same."""
    one, five = engines
    expected = alone(one, PROMPTS[0], [9])[1]
    for n in range(1, N + 1):
        for sequence in five.sequences:
            sequence.clear()
        for sequence in five.sequences[:n]:
            sequence.decode(PROMPTS[0])
        assert five.decode_together([(sequence, [9]) for sequence in five.sequences[:n]])
        assert {s.logits().tobytes() for s in five.sequences[:n]} == {expected}


def test_a_sequence_costs_no_memory_but_its_sampler(engines: tuple[WasmEngine, WasmEngine]) -> None:
    """However often each gets another one."""
    _, five = engines
    held = 0
    for turn in range(200):
        for sequence in five.sequences:
            sequence.set_sampler(SamplingParams(temperature=0.7, dry_multiplier=0.5), turn, [1, 2])
        if turn == 100:
            held = five.guest.memory_size
    assert five.guest.memory_size == held
