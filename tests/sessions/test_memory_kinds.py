"""The ledger rule on every kind of memory llama.cpp has, over small random models."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import Capability, LlamaBridge, MemoryKind, ModelParams, SamplingParams
from tests.ledger import assert_ledger_rule, machine
from tools.random_model import write_model

KINDS = {
    "llama": MemoryKind.DENSE,
    "qwen2": MemoryKind.DENSE,
    "gemma3": MemoryKind.SWA,
    "mamba": MemoryKind.RECURRENT,
    "lfm2": MemoryKind.HYBRID,
}
PARAMS = SamplingParams(temperature=0, max_tokens=6)


@pytest.fixture(scope="module", params=list(KINDS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kinds") / f"{request.param}.gguf"
    write_model(path, architecture=request.param, seed=3)
    return path


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_continue_cancel_and_stop_keep_the_ledger_true(
    model: Path, backend: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with LlamaBridge(model, backend=backend, params=ModelParams(n_ctx=512)) as llama:
        assert llama.info.memory is KINDS[model.stem]
        llama.generate("Once upon a time there was a small house", params=PARAMS)
        again = llama.generate_continue(" and in it", params=PARAMS)
        llama.generate_continue(" there lived", params=PARAMS, stop=again.text[2:4] or "x")
        with llama.generate_continue_stream(" a mouse", params=PARAMS) as stream:
            next(stream, None)
        if Capability.SESSION_PERSISTENCE in llama.capabilities:
            tokens = llama.session.tokens
            llama.session_save(tmp_path / "s")
            llama.generate("Something else", params=PARAMS)
            llama.session_load(tmp_path / "s")
            assert llama.session.tokens == tokens
            llama.generate_continue(" and then", params=PARAMS)
        cancelled = llama.generate_continue_stream(" that is", params=PARAMS)
        llama.cancel()
        assert cancelled.result.text == ""
        before = machine(llama).kv.conversation
        assert llama.generate_continue(" all", params=PARAMS).usage.completion_tokens > 0
        if Capability.KV_CONTINUATION in llama.capabilities:
            assert list(llama.session.tokens[: len(before)]) == before
        assert_ledger_rule(llama, n=4)
