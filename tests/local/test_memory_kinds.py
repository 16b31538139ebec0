"""The ledger rule on every kind of memory llama.cpp has, over small random models."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import Capability, LlamaBridge, MemoryKind, ModelParams, SamplingParams
from llama_bridge.local.ledger import common_beginning
from tests.ledger import assert_ledger_rule, assert_likeliest, engine_of, machine
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
        llama.generate("Once upon a time there was a small house", sampling=PARAMS)
        again = llama.generate_continue(" and in it", sampling=PARAMS)
        llama.generate_continue(" there lived", sampling=PARAMS, stop=again.text[2:4] or "x")
        with llama.generate_continue_stream(" a mouse", sampling=PARAMS) as stream:
            next(stream, None)
        if Capability.SESSION_PERSISTENCE in llama.capabilities:
            tokens = llama.session().tokens
            llama.session_save(tmp_path / "s")
            llama.generate("Something else", sampling=PARAMS)
            llama.session_load(tmp_path / "s")
            assert llama.session().tokens == tokens
            llama.generate_continue(" and then", sampling=PARAMS)
        cancelled = llama.generate_continue_stream(" that is", sampling=PARAMS)
        llama.cancel()
        assert cancelled.result.text == ""
        before = machine(llama).kv.conversation
        assert llama.generate_continue(" all", sampling=PARAMS).usage.completion_tokens > 0
        if Capability.KV_CONTINUATION in llama.capabilities:
            assert list(llama.session().tokens[: len(before)]) == before
        assert_ledger_rule(llama, n=4)


class Twins:
    """A bridge, and one beside it that evaluates everything anew."""

    def __init__(self, model: Path, backend: str, params: ModelParams) -> None:
        self.llama, self.other = (
            LlamaBridge(model, backend=backend, params=params, sampling=PARAMS) for _ in range(2)
        )

    def __enter__(self) -> Twins:
        return self

    def __exit__(self, *_: object) -> None:
        self.llama.close()
        self.other.close()

    def ask(self, prompt: str) -> tuple[int, int]:
        """Of a fresh prompt the tokens that were cached, and those that could have been; the answer is right."""
        held = self.llama.session().tokens
        usage = self.llama.generate(prompt).usage
        tokens = self.llama.session().tokens
        prompt_tokens, answer = tokens[: usage.prompt_tokens], tokens[usage.prompt_tokens :]
        assert list(prompt_tokens) == self.other.tokenize(prompt)
        assert usage.cached_tokens + usage.evaluated_tokens == usage.prompt_tokens
        assert engine_of(self.llama).length == len(tokens)
        assert len(answer) == PARAMS.max_tokens
        assert_likeliest(engine_of(self.other), prompt_tokens, answer)
        return usage.cached_tokens, common_beginning(held, prompt_tokens[:-1])


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_a_fresh_prompt_takes_its_beginning_from_the_cache_where_that_can_be_rewound(
    model: Path, backend: str
) -> None:
    rewinds = KINDS[model.stem] in (MemoryKind.DENSE, MemoryKind.SWA)
    with Twins(model, backend, ModelParams(n_ctx=512)) as twins:
        assert (Capability.PREFIX_CACHE in twins.llama.capabilities) is rewinds
        text = "Once upon a time there was a small house"
        assert twins.ask(text)[0] == 0
        # The same again, one that is longer, shorter, another one, and the first.
        for prompt in (text, f"{text} in a wood", "Once upon a time", "Once upon two mice", text):
            cached, common = twins.ask(prompt)
            assert cached == (common if rewinds else 0)
            assert common > 0
        assert_ledger_rule(twins.llama, n=4)


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_beyond_the_sliding_window_a_fresh_prompt_is_evaluated_whole(
    tmp_path: Path, backend: str
) -> None:
    write_model(tmp_path / "m.gguf", architecture="gemma3", n_layer=4, n_swa=32, seed=3)
    long = "the small house in the wood " * 80
    with Twins(tmp_path / "m.gguf", backend, ModelParams(n_ctx=1024, n_batch=64)) as twins:
        assert twins.ask(long)[0] == 0
        # Behind a little more, the tokens that the next one looks back on are still there.
        for prompt in (f"{long}lived", f"{long}was red", long):
            cached, common = twins.ask(prompt)
            assert cached == common > 400
        # Behind the first few they are not.
        cached, common = twins.ask("the small house was red")
        assert (cached, common > 3) == (0, True)
        # All of so short a prompt is in the window.
        for prompt in ("the small house was blue", long):
            cached, common = twins.ask(prompt)
            assert cached == common > 3
