"""What llama.cpp is given to compute for several callers: few batches, and whole groups of rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from llama_bridge import Generation, LlamaBridge, SamplingParams
from llama_bridge.local.company import rows_beside
from tests.ledger import engine_of

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

CALLERS = 4
PROMPT = 100
ANSWER = 9


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows in each batch that is computed from now on."""
    from llama_bridge_native.engine import NativeEngine

    found: list[int] = []
    compute = NativeEngine.compute

    def counted(engine: NativeEngine, batch: Any) -> bool:
        found.append(batch.given.n_tokens)
        return compute(engine, batch)

    monkeypatch.setattr(NativeEngine, "compute", counted)
    return found


def ask_at_once(llama: LlamaBridge, prompts: list[str]) -> list[Generation]:
    sampling = SamplingParams(temperature=0, max_tokens=ANSWER)
    together = Barrier(len(prompts))

    def ask(prompt: str) -> Generation:
        together.wait(10)
        return llama.generate(prompt, sampling=sampling, chat=False)

    with ThreadPoolExecutor(len(prompts)) as threads:
        return list(threads.map(ask, prompts))


def test_rows_come_in_whole_groups_and_last_tokens_together(batches: list[int]) -> None:
    """A row beside a group of four costs llama.cpp as much as the group; a step for one token is nearly one for all."""
    with LlamaBridge("demo", backend="native", n_parallel=CALLERS) as llama:
        text = "a b c d e f g h i j " * PROMPT
        prompts: list[str] = []
        for i in range(CALLERS):
            prompt = f"{i} {text}"
            while len(llama.tokenize(prompt)) > PROMPT:
                prompt = prompt[:-1]
            prompts.append(prompt)
        batches.clear()
        answers = ask_at_once(llama, prompts)
        assert [answer.usage.completion_tokens for answer in answers] == [ANSWER] * CALLERS
        assert engine_of(llama).info.n_gpu_layers == 0
    evaluated = sum(answer.usage.evaluated_tokens for answer in answers)
    assert sum(batches) == evaluated + CALLERS * ANSWER
    prefill = batches[:-ANSWER]
    assert batches[-ANSWER:] == [CALLERS] * ANSWER  # the last of them with the last tokens
    assert all(rows % 4 == 0 for rows in prefill[:-1])
    assert len(prefill) <= 1 + CALLERS * 2


def test_a_prompt_goes_on_beside_any_number_of_answers() -> None:
    """However little room a step has for it, whole groups of rows leave it some."""
    for taken in range(1, 65):
        for room in range(1, 65):
            found = rows_beside(taken, room)
            assert 0 < found <= room
            assert room < 4 or (taken + found) % 4 == 0
