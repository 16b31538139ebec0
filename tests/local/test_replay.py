"""A conversation whose KV cache cannot be used is evaluated again where that is asked for, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    ContextOverflow,
    EngineError,
    LlamaBridge,
    Mode,
    ModelParams,
    SamplingParams,
    SessionCancelled,
    SessionCorrupt,
    SessionMismatch,
)
from llama_bridge.testing import FakeBackend
from tests.forging import forge
from tests.ledger import GREEDY, assert_ledger_rule, engine_of, machine
from tests.making import MakeModel
from tools.random_model import CHATML

PARAMS = ModelParams(n_ctx=256)
SHORT = SamplingParams(temperature=0, max_tokens=6)


def save(
    model: Path | str, path: Path, *prompts: str, params: ModelParams = PARAMS
) -> tuple[int, ...]:
    with LlamaBridge(model, backend="native", params=params) as llama:
        for prompt in prompts:
            llama.generate_continue(prompt, sampling=SHORT)
        llama.session_save(path)
        return llama.session().tokens


@contextmanager
def untouched(llama: LlamaBridge) -> Generator[None]:
    """The conversation and its KV cache survive the block."""
    llama.generate("Something else", sampling=SHORT)
    before = (llama.session().tokens, llama.session().messages, llama.session().n_turns)
    yield
    assert (llama.session().tokens, llama.session().messages, llama.session().n_turns) == before
    answer = llama.generate_continue(" more", sampling=SHORT)
    assert answer.usage.cached_tokens == len(before[0])
    assert_ledger_rule(llama, n=3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 4}, "model.weights"),
        ({"quantization": "q8_0"}, "model.tensors"),
        ({"chat_template": CHATML}, "model.chat_template"),
        ({"architecture": "gemma3"}, "model.architecture"),
        ({"architecture": "mamba"}, "model.architecture"),
        ({"architecture": "lfm2"}, "model.architecture"),
    ],
)
def test_another_model_with_the_same_vocabulary_evaluates_the_tokens(
    make_model: MakeModel, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    tokens = save(make_model(), tmp_path / "s", "Once upon", " a time")
    with LlamaBridge(make_model(**change), backend="native", params=PARAMS) as llama:
        llama.generate("Something else", sampling=SHORT)
        info = llama.session_load(tmp_path / "s", replay=True)
        assert info.replayed == f"{field} differs: its {len(tokens)} tokens were evaluated again"
        assert llama.session().tokens == tokens
        assert info.cached_tokens + info.evaluated_tokens == info.n_tokens == len(tokens)
        assert info.evaluated_tokens >= len(tokens) - 1  # the BOS may have been there
        assert info.owed_tokens == 0
        assert llama.session().n_turns == 2
        answer = llama.generate_continue(" there", sampling=SHORT, chat=False)
        assert answer.mode is Mode.CONTINUED
        assert answer.usage.cached_tokens == len(tokens)
        assert_ledger_rule(llama, n=3)


@pytest.mark.parametrize(
    "params",
    [
        ModelParams(n_ctx=256, type_k="f32"),
        ModelParams(n_ctx=256, flash_attn=False),
    ],
)
def test_another_context_evaluates_the_tokens(
    make_model: MakeModel, tmp_path: Path, params: ModelParams
) -> None:
    tokens = save(make_model(), tmp_path / "s", "Once upon", " a time")
    with LlamaBridge(make_model(), backend="native", params=params) as llama:
        info = llama.session_load(tmp_path / "s", replay=True)
        assert info.replayed is not None
        assert (info.cached_tokens, info.evaluated_tokens) == (0, len(tokens))
        assert_ledger_rule(llama, n=3)


def test_a_good_cache_is_used_as_it_is(make_model: MakeModel, tmp_path: Path) -> None:
    tokens = save(make_model(), tmp_path / "s", "Once upon", " a time")
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        info = llama.session_load(tmp_path / "s", replay=True)
        assert (info.replayed, info.cached_tokens, info.evaluated_tokens) == (None, len(tokens), 0)


def test_another_vocabulary_evaluates_the_messages(make_model: MakeModel, tmp_path: Path) -> None:
    chat = make_model(vocab="qwen2", chat_template=CHATML)
    save(chat, tmp_path / "s", "hello", "and again")
    said = [
        {"role": "user", "content": "Hello! My name is Zorvane."},
        {"role": "assistant", "content": "Nice to meet you, Zorvane!"},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You're welcome!"},
    ]
    forge(tmp_path / "s", manifest={"messages": said})
    with LlamaBridge("demo", backend="native") as llama:
        with pytest.raises(SessionMismatch):
            llama.session_load(tmp_path / "s")
        info = llama.session_load(tmp_path / "s", replay=True)
        assert info.replayed == (
            "model.vocabulary differs: its 4 messages were rendered with this model's chat template "
            "and evaluated"
        )
        assert info.evaluated_tokens == info.n_tokens == len(llama.session().tokens)
        assert llama.session().messages == said
        assert llama.session().n_turns == 2
        raw = b"".join(
            engine_of(llama).token_bytes(token, special=True) for token in llama.session().tokens
        )
        assert str(llama.apply_chat_template(said)).startswith(raw.decode().removeprefix("<s>"))
        answer = llama.generate_continue("What is my name?", sampling=GREEDY)
        assert answer.mode is Mode.CONTINUED
        assert "Zorvane" in answer.text
        llama.session_rewind(2)
        assert llama.session().messages == said[:2]
        assert "Zorvane" in llama.generate_continue("What is my name?", sampling=GREEDY).text
        assert_ledger_rule(llama)


def test_replayed_messages_are_the_tokens_that_talking_gives(
    tmp_path: Path,
) -> None:
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
        llama.generate_continue("Thanks!", sampling=GREEDY)
        said, tokens = llama.session().messages, llama.session().tokens
        replayed = machine(llama).spelling.plan_messages(said)
        # The end of the last turn comes with the next one.
        assert replayed.tokens == tokens[:-1]
        one, two = machine(llama).turns
        assert replayed.turns == (one, replace(two, start=two.start - 1))


@pytest.mark.parametrize("prompts", [[False], [False, True], [True, False]])
def test_raw_text_is_not_moved_to_another_vocabulary(
    make_model: MakeModel, tmp_path: Path, prompts: list[bool]
) -> None:
    chat = make_model(vocab="qwen2", chat_template=CHATML)
    with LlamaBridge(chat, backend="native", params=PARAMS) as llama:
        for is_chat in prompts:
            llama.generate_continue("some words", sampling=SHORT, chat=is_chat)
        llama.session_save(tmp_path / "s")
    with LlamaBridge("demo", backend="native", params=PARAMS) as llama, untouched(llama):
        with pytest.raises(SessionMismatch, match="raw text") as caught:
            llama.session_load(tmp_path / "s", replay=True)
        assert caught.value.field == "model.vocabulary"


def test_messages_need_a_chat_template(make_model: MakeModel, tmp_path: Path) -> None:
    save("demo", tmp_path / "s", "Hello!")
    with (
        LlamaBridge(make_model(), backend="native", params=PARAMS) as llama,
        untouched(llama),
        pytest.raises(SessionMismatch, match="no chat template"),
    ):
        llama.session_load(tmp_path / "s", replay=True)


@pytest.mark.parametrize("other", [False, True], ids=["n_ctx alone", "another model too"])
def test_what_does_not_fit_is_refused_before_anything_is_evaluated(
    make_model: MakeModel, tmp_path: Path, other: bool
) -> None:
    tokens = save(make_model(), tmp_path / "s", "many words " * 200, params=ModelParams(n_ctx=1024))
    model = make_model(seed=4) if other else make_model()
    with LlamaBridge(model, backend="native", params=PARAMS) as llama, untouched(llama):
        assert len(tokens) > llama.info.n_ctx
        with pytest.raises(ContextOverflow) as caught:
            llama.session_load(tmp_path / "s", replay=True)
        assert caught.value.needed == len(tokens) + 1


def test_a_state_that_llama_cpp_refuses_is_evaluated_again(
    make_model: MakeModel, tmp_path: Path
) -> None:
    tokens = save(make_model(), tmp_path / "s", "Once upon", " a time")

    def shorten(sequence: bytearray) -> None:
        del sequence[-100:]

    forge(tmp_path / "s", state=shorten)
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        with untouched(llama), pytest.raises(SessionCorrupt, match="replay=True"):
            llama.session_load(tmp_path / "s")
        info = llama.session_load(tmp_path / "s", replay=True)
        assert info.replayed == (
            f"llama.cpp refused its KV state: its {len(tokens)} tokens were evaluated again"
        )
        assert llama.session().tokens == tokens
        assert_ledger_rule(llama, n=3)


def test_a_damaged_file_is_refused_all_the_same(make_model: MakeModel, tmp_path: Path) -> None:
    save(make_model(), tmp_path / "s", "Once upon", " a time")
    data = bytearray((tmp_path / "s").read_bytes())
    data[20] ^= 1
    (tmp_path / "s").write_bytes(data)
    with LlamaBridge(make_model(seed=4), backend="native", params=PARAMS) as llama:
        with untouched(llama), pytest.raises(SessionCorrupt, match="digest"):
            llama.session_load(tmp_path / "s", replay=True)
        with untouched(llama), pytest.raises(SessionCorrupt, match="digest"):
            llama.session_load(tmp_path / "s", replay=True, trust_unverified=True)


def test_a_cancelled_replay_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    slow = FakeBackend(prefill_token_seconds=0.005)
    with LlamaBridge("demo", backend=FakeBackend()) as llama:
        llama.generate("word " * 400)
        llama.session_save(tmp_path / "s")
    forge(tmp_path / "s", manifest={"context.kv_type_k": "f32"})
    with LlamaBridge("demo", backend=slow) as llama:
        llama.generate("Something else")
        before = (llama.session().tokens, llama.session().messages)
        start = time.monotonic()
        timer = threading.Timer(0.1, llama.cancel)
        timer.start()
        with pytest.raises(SessionCancelled):
            llama.session_load(tmp_path / "s", replay=True)
        assert time.monotonic() - start < 2
        timer.join()
        assert (llama.session().tokens, llama.session().messages) == before
        assert llama.generate_continue("more").usage.cached_tokens == len(before[0])


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize("after", [1, 4])
def test_a_cancel_in_real_work_leaves_every_kind_of_memory_as_it_was(
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    after: int,
) -> None:
    good, other = tmp_path / "good", tmp_path / "other"
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        llama.session_save(other)
    model = make_model(architecture=architecture, seed=4)
    with LlamaBridge(model, backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        llama.session_save(good)
        engine = engine_of(llama)
        decode, calls = engine.decode, iter(range(100))

        def cancelled_decode(tokens: Sequence[int]) -> int:
            if (next(calls) + 1) % after == 0:
                llama.cancel()
            return decode(tokens)

        with untouched(llama), monkeypatch.context() as patch:
            patch.setattr(engine, "decode", cancelled_decode)
            with pytest.raises(SessionCancelled):
                llama.session_verify(good, deep=True)
            if after == 1:
                with pytest.raises(SessionCancelled):
                    llama.session_load(other, replay=True)


def test_a_replay_that_fails_leaves_the_session_as_it_was(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(make_model(), tmp_path / "s", "Once upon", " a time")
    with (
        LlamaBridge(make_model(seed=4), backend="native", params=PARAMS) as llama,
        untouched(llama),
    ):

        def fail(tokens: object) -> int:
            raise EngineError("the engine fails")

        with monkeypatch.context() as patch:
            patch.setattr(engine_of(llama), "decode", fail)
            with pytest.raises(EngineError, match="the engine fails"):
                llama.session_load(tmp_path / "s", replay=True)
