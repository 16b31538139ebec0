"""Several conversations over one model: forked, rewound, answered anew, put to rest and taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import (
    Capability,
    InvalidInput,
    LlamaBridge,
    Mode,
    ModelParams,
    SamplingParams,
    UnsupportedCapability,
    registry,
)
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.local.pool import Pool
from tests.ledger import GREEDY, assert_ledger_rule, machine
from tools.random_model import write_model

tools = pytest.mark.requires_capability("session_tools")
SHORT = SamplingParams(temperature=0, max_tokens=5)


def pool(llama: LlamaBridge) -> Pool:
    runtime = llama._shared.alive()
    assert isinstance(runtime, LocalRuntime)
    return runtime._pool


@tools
def test_a_fork_goes_its_own_way_from_a_past_it_does_not_evaluate(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    past = llama.session().tokens
    branch = llama.session_fork("other")
    assert branch.tokens == past
    llama.generate_continue("Thanks!", sampling=GREEDY)
    answer = branch.generate_continue("What is my name?", sampling=GREEDY)
    assert answer.mode is Mode.CONTINUED
    assert answer.usage.cached_tokens == len(past)
    assert "Zorvane" in answer.text
    assert llama.session().messages[2]["content"] == "Thanks!"
    assert branch.messages[2]["content"] == "What is my name?"
    again = llama.generate_continue("Who are you?", sampling=GREEDY)
    assert again.usage.cached_tokens + again.usage.evaluated_tokens == again.usage.prompt_tokens
    assert again.usage.cached_tokens > len(past)
    assert_ledger_rule(llama)


@tools
def test_named_sessions_know_nothing_of_each_other(llama: LlamaBridge) -> None:
    one, two = llama.session("one"), llama.session("two")
    one.generate("My name is Zorvane.", sampling=GREEDY)
    two.generate("My name is Bixby.", sampling=GREEDY)
    assert "Zorvane" in one.generate_continue("What is my name?", sampling=GREEDY).text
    assert "Bixby" in two.generate_continue("What is my name?", sampling=GREEDY).text
    assert llama.sessions() == ["one", "two"]
    assert not llama.session().active
    assert llama.session("one").tokens == one.tokens
    one.delete()
    assert llama.sessions() == ["two"]
    assert not one.active
    with pytest.raises(InvalidInput, match="there is already a session named 'two'"):
        llama.session_fork("two")


@tools
def test_rewinding_takes_back_whole_turns(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    one = (llama.session().tokens, llama.session().messages)
    llama.generate_continue("Thanks!", sampling=GREEDY)
    llama.generate_continue("Who are you?", sampling=GREEDY)
    assert llama.session().n_turns == 3
    for wrong in (0, -1, 4):
        with pytest.raises(InvalidInput, match="turns="):
            llama.session_rewind(wrong)
    llama.session_rewind(2)
    assert (llama.session().tokens, llama.session().messages) == one
    assert "Zorvane" in llama.generate_continue("What is my name?", sampling=GREEDY).text
    llama.session_rewind(2)
    assert not llama.session().active
    assert llama.generate_continue("Hello!", sampling=GREEDY).mode is Mode.FRESH
    assert_ledger_rule(llama)


@tools
def test_regenerating_replaces_the_answer_and_evaluates_one_token(llama: LlamaBridge) -> None:
    with pytest.raises(InvalidInput, match="no answer"):
        llama.regenerate()
    first = llama.generate("Who are you?", sampling=GREEDY)
    tokens = llama.session().tokens
    again = llama.regenerate(sampling=GREEDY)
    assert (again.text, llama.session().tokens) == (first.text, tokens)
    assert again.usage.evaluated_tokens == 1
    assert again.usage.prompt_tokens == first.usage.prompt_tokens
    assert len(llama.session().messages) == 2
    assert llama.session().n_turns == 1
    hot = SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, seed=4, max_tokens=8)
    assert (
        llama.regenerate(sampling=hot).text == llama.session().messages[-1]["content"] != first.text
    )
    assert_ledger_rule(llama)


@tools
def test_a_regeneration_cancelled_before_it_said_anything_keeps_the_old_answer(
    llama: LlamaBridge,
) -> None:
    llama.generate("Who are you?", sampling=GREEDY)
    before = (llama.session().tokens, llama.session().messages, llama.session().n_turns)
    stream = llama.regenerate_stream(sampling=GREEDY)
    llama.cancel()
    assert stream.result.text == ""
    assert (llama.session().tokens, llama.session().messages, llama.session().n_turns) == before
    assert llama.generate_continue("Thanks!", sampling=GREEDY).text
    assert_ledger_rule(llama)


@tools
def test_turns_survive_saving(llama: LlamaBridge, tmp_path: Path) -> None:
    llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    one = llama.session().tokens
    llama.generate_continue("Thanks!", sampling=GREEDY)
    llama.session_save(tmp_path / "s")
    other = llama.session("other")
    assert other.load(tmp_path / "s").n_tokens == len(llama.session().tokens)
    other.rewind()
    assert other.tokens == one
    assert len(llama.session().tokens) > len(one)


@pytest.mark.lacks_capability("session_tools")
def test_without_session_tools_each_is_refused_by_name(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    for call in (
        llama.session_fork,
        llama.session_rewind,
        llama.regenerate,
        lambda: llama.session("other"),
    ):
        with pytest.raises(UnsupportedCapability, match="session_tools") as caught:
            call()
        assert caught.value.capability is Capability.SESSION_TOOLS
        assert caught.value.available_in == tuple(registry.available_in(Capability.SESSION_TOOLS))


@pytest.mark.parametrize("memory", [0, 400_000, 1 << 30])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_every_memory_kind_switches_under_any_bound(
    architecture: str, memory: int, tmp_path: Path
) -> None:
    write_model(tmp_path / "m.gguf", architecture=architecture, seed=5)
    params = ModelParams(n_ctx=512)
    with LlamaBridge(
        tmp_path / "m.gguf", backend="native", params=params, session_memory=memory
    ) as llama:
        folder = Path(pool(llama)._temporary)
        handles = [llama.session(name) for name in "abcd"]
        for round_ in range(3):
            for i, handle in enumerate(handles):
                handle.generate_continue(f"round {round_} of {i} and so on", sampling=SHORT)
        branch = handles[1].fork("branch")
        branch.generate_continue("another way", sampling=SHORT)
        handles[2].rewind()
        handles[0].regenerate(sampling=SHORT)
        for handle in [*handles, branch]:
            before = handle.tokens
            answer = handle.generate_continue("end", sampling=SHORT)
            assert answer.mode is Mode.CONTINUED
            assert handle.tokens[: len(before)] == before
            usage = answer.usage
            assert len(handle.tokens) == usage.prompt_tokens + usage.completion_tokens
            kept = machine(llama).snapshot()
            assert_ledger_rule(llama, n=4)
            assert machine(llama).restore(kept)
        folder = Path(pool(llama)._temporary or tmp_path)
    assert folder == tmp_path or not folder.exists()
