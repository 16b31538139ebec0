"""A fresh prompt that begins like what the KV cache holds costs only the rest, and its answer is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import (
    Capability,
    ContextOverflow,
    EngineError,
    FallbackWarning,
    Generation,
    LlamaBridge,
    MemoryKind,
    Mode,
    Prompt,
    SamplingParams,
)
from llama_bridge.testing import FakeLlama
from tests.ledger import GREEDY, assert_ledger_rule, engine_of

pytestmark = pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")
cache = pytest.mark.requires_capability("prefix_cache")
tools = pytest.mark.requires_capability("prefix_cache", "session_tools")
files = pytest.mark.requires_capability("prefix_cache", "session_persistence")

NAME = "Hello! My name is Zorvane."
ASK = "What is my name?"
RULES = (
    "You are a friendly helper. Keep every answer short, say what you know, and ask when in doubt."
)
HOT = SamplingParams(temperature=1.2, repeat_penalty=1.3, seed=5, max_tokens=24)


def from_nothing(
    llama: LlamaBridge, prompt: str | Prompt, **how: object
) -> tuple[Generation, Sequence[int]]:
    """The answer with an empty KV cache, and the ledger behind it."""
    llama.session_reset()
    answer = llama.generate(prompt, **({"sampling": GREEDY} | how))  # type: ignore[arg-type]
    assert answer.usage.cached_tokens == 0
    return answer, llama.session().tokens


def assert_as_from_nothing(
    llama: LlamaBridge, held: Sequence[int], answer: Generation, prompt: str | Prompt, **how: object
) -> None:
    """All of the prompt's beginning that was held was taken from the cache, and nothing else is different."""
    usage, tokens = answer.usage, llama.session().tokens
    assert len(tokens) == engine_of(llama).length
    expected, expected_tokens = from_nothing(llama, prompt, **how)
    assert (answer.text, answer.finish_reason) == (expected.text, expected.finish_reason)
    assert tokens == expected_tokens
    assert answer.mode is Mode.FRESH
    n_prompt = expected.usage.prompt_tokens
    common = 0
    while common < min(len(held), n_prompt - 1) and held[common] == tokens[common]:
        common += 1
    assert (usage.cached_tokens, usage.prompt_tokens) == (common, n_prompt)
    assert usage.evaluated_tokens == n_prompt - common > 0
    assert usage.completion_tokens == expected.usage.completion_tokens


@cache
def test_a_growing_list_of_messages_costs_only_its_new_turn(llama: LlamaBridge) -> None:
    messages: list[dict[str, str]] = []
    for question in (NAME, "Thanks!", "Who are you?", ASK):
        messages.append({"role": "user", "content": question})
        held = llama.session().tokens
        answer = llama.generate(llama.apply_chat_template(messages), chat=False, sampling=GREEDY)
        messages.append({"role": "assistant", "content": answer.text})
        assert answer.usage.cached_tokens == len(held)
        assert answer.usage.evaluated_tokens < 25
    assert "Zorvane" in answer.text
    whole = llama.apply_chat_template(messages[:-1])
    assert answer.text == from_nothing(llama, whole, chat=False)[0].text
    assert answer.usage.prompt_tokens > 70


@cache
@pytest.mark.parametrize(
    ("before", "prompt"),
    [
        (NAME, NAME),
        (NAME, "Hello! My name is Bixby."),
        (NAME, ASK),
        ("Who are you? I like tea.", "Who are you?"),
        ("Who are you?", "Who are you? I like tea."),
        ("Grüße, 世界 🦙!", "Grüße, 世界 🦘!"),
        ("é", "è"),
        ("Thanks!", "<|end|>\n<|assistant|>\n"),
    ],
)
@pytest.mark.parametrize("chat", [True, False])
def test_the_answer_is_the_same_and_only_the_rest_is_evaluated(
    llama: LlamaBridge, before: str, prompt: str, chat: bool
) -> None:
    llama.generate(before, chat=chat, sampling=GREEDY)
    held = llama.session().tokens
    answer = llama.generate(prompt, chat=chat, sampling=GREEDY)
    if llama.info.bos is not None and llama.info.add_bos:
        assert llama.session().tokens.count(llama.info.bos) == 1
        assert answer.usage.cached_tokens >= 1
    assert_as_from_nothing(llama, held, answer, prompt, chat=chat)


@cache
def test_of_a_prompt_that_is_cached_whole_the_last_token_is_evaluated(llama: LlamaBridge) -> None:
    llama.generate(NAME, sampling=GREEDY)
    held = llama.session().tokens
    # The template may write white space behind the last end of turn, where the model stops.
    said = [*llama.session().messages]
    text = str(llama.apply_chat_template(said, add_generation_prompt=False))
    whole = Prompt.control(text.rstrip())
    assert tuple(llama.tokenize(whole)) == held
    answer = llama.generate(whole, chat=False, sampling=GREEDY)
    assert answer.usage.evaluated_tokens == 1
    assert_as_from_nothing(llama, held, answer, whole, chat=False)


@cache
def test_a_prompt_of_one_token_is_evaluated(llama: LlamaBridge) -> None:
    llama.generate("a", chat=False, sampling=GREEDY)
    end = min(llama.info.end_of_generation)
    spelled = engine_of(llama).token_bytes(end, special=True).decode()
    for prompt in ("a", Prompt.control(spelled)):
        held = llama.session().tokens
        answer = llama.generate(prompt, chat=False, sampling=GREEDY)
        assert answer.usage.evaluated_tokens >= 1
        assert_as_from_nothing(llama, held, answer, prompt, chat=False)


@cache
def test_a_stream_does_the_same(llama: LlamaBridge) -> None:
    llama.generate(NAME, sampling=GREEDY)
    held = llama.session().tokens
    stream = llama.generate_stream("Hello! My name is Bixby.", sampling=GREEDY)
    text = "".join(stream)
    assert text == stream.result.text
    assert_as_from_nothing(llama, held, stream.result, "Hello! My name is Bixby.")


@cache
def test_seeds_and_penalties_see_the_whole_prompt(llama: LlamaBridge) -> None:
    for before in (NAME, NAME, "Hello!"):
        llama.generate(before, sampling=GREEDY)
        held = llama.session().tokens
        answer = llama.generate(NAME, sampling=HOT)
        assert_as_from_nothing(llama, held, answer, NAME, sampling=HOT)


@cache
def test_a_stop_string_leaves_a_cache_that_serves(llama: LlamaBridge) -> None:
    whole = llama.generate("Who are you?", sampling=GREEDY).text
    for stop in (whole[3:6], whole[9:10]):
        held = llama.session().tokens
        answer = llama.generate("Who are you?", sampling=GREEDY, stop=stop)
        assert_as_from_nothing(llama, held, answer, "Who are you?", stop=stop)


@cache
def test_a_system_message_is_evaluated_once(llama: LlamaBridge) -> None:
    llama.system = RULES
    n_rules = len(llama.tokenize(RULES))
    assert llama.generate(NAME, sampling=GREEDY).usage.evaluated_tokens > n_rules
    for question in (ASK, "Who are you?"):
        usage = llama.generate(question, sampling=GREEDY).usage
        assert usage.cached_tokens > n_rules > usage.evaluated_tokens


@pytest.mark.requires_capability("prefix_cache")
@pytest.mark.lacks_capability("kv_continuation")
def test_a_continue_that_falls_back_shares_only_what_both_prompts_begin_with(
    llama: LlamaBridge,
) -> None:
    llama.system = RULES
    llama.generate(NAME, sampling=GREEDY)
    held = llama.session().tokens
    with pytest.warns(FallbackWarning, match="kv_continuation"):
        answer = llama.generate_continue(ASK, sampling=GREEDY)
    assert answer.fallback is not None
    assert "Zorvane" not in answer.text
    assert answer.usage.cached_tokens > len(llama.tokenize(RULES))
    assert_as_from_nothing(llama, held, answer, ASK)


@cache
def test_after_a_reset_nothing_serves(llama: LlamaBridge) -> None:
    llama.generate(NAME, sampling=GREEDY)
    llama.session_reset()
    assert engine_of(llama).length == 0
    assert llama.generate(NAME, sampling=GREEDY).usage.cached_tokens == 0


@cache
def test_too_long_a_prompt_is_refused_and_costs_nothing(llama: LlamaBridge) -> None:
    text = "word " * 20
    llama.generate(text, chat=False, sampling=GREEDY)
    before = llama.session().tokens
    with pytest.raises(ContextOverflow):
        llama.generate(text * llama.info.n_ctx, chat=False, sampling=GREEDY)
    assert llama.session().tokens == before
    assert engine_of(llama).length == len(before)
    held = llama.session().tokens
    answer = llama.generate(text, chat=False, sampling=GREEDY)
    assert_as_from_nothing(llama, held, answer, text, chat=False)


@cache
def test_a_prompt_that_fills_the_context_costs_one_token_the_second_time(
    llama: LlamaBridge,
) -> None:
    n_ctx = llama.info.n_ctx
    text = "a" * 4 * n_ctx
    while len(llama.tokenize(text)) > n_ctx - 1:
        text = text[: -max(1, len(text) // 50)]
    first = llama.generate(text, chat=False, sampling=GREEDY)
    again = llama.generate(text, chat=False, sampling=GREEDY)
    assert again.text == first.text
    assert again.usage.evaluated_tokens == 1
    assert len(llama.session().tokens) == engine_of(llama).length <= n_ctx


# what goes wrong


@cache
@pytest.mark.parametrize("how_far", [0.0, 0.5, 1.0])
def test_cancelled_before_it_said_anything_the_session_is_empty(
    llama: LlamaBridge, how_far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.generate(NAME, sampling=GREEDY)
    engine, decode = engine_of(llama), engine_of(llama).decode

    def interrupted(tokens: Sequence[int]) -> int:
        some = tokens[: int(how_far * len(tokens))]
        done = decode(some) if some else 0
        engine.cancel()
        return done

    monkeypatch.setattr(engine, "decode", interrupted)
    answer = llama.generate(NAME + " And you? What do you like best?", sampling=GREEDY)
    monkeypatch.undo()
    assert (answer.text, answer.finish_reason) == ("", "cancelled")
    usage = answer.usage
    assert usage.cached_tokens + usage.evaluated_tokens == usage.prompt_tokens
    assert not llama.session().active
    assert llama.session().messages == []
    assert engine.length == 0
    assert_as_from_nothing(llama, (), llama.generate(ASK, sampling=GREEDY), ASK)


@cache
def test_cancelled_while_it_spoke_what_was_said_stays_and_serves(llama: LlamaBridge) -> None:
    llama.generate("Who are you?", sampling=GREEDY)
    with llama.generate_stream("Who are you?", sampling=GREEDY) as stream:
        next(stream)
        next(stream)
    assert stream.result.finish_reason == "cancelled"
    held = llama.session().tokens
    assert engine_of(llama).length == len(held)
    answer = llama.generate("Who are you?", sampling=GREEDY)
    assert_as_from_nothing(llama, held, answer, "Who are you?")


@cache
def test_a_stream_that_never_began_changes_nothing(llama: LlamaBridge) -> None:
    llama.generate(NAME, sampling=GREEDY)
    before = (llama.session().tokens, llama.session().messages)
    llama.generate_stream("Hello! My name is Bixby.", sampling=GREEDY).close()
    assert (llama.session().tokens, llama.session().messages) == before
    assert engine_of(llama).length == len(before[0])


@cache
@pytest.mark.parametrize("error", [EngineError("lost"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["decode", "truncate", "sample", "step"])
def test_a_failed_turn_leaves_an_empty_session(
    llama: LlamaBridge, call: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.generate(NAME, sampling=GREEDY)
    engine = engine_of(llama)
    work = getattr(engine, call)

    def does_it_and_fails(*args: object) -> None:
        if args != (0,):
            work(*args)
            raise error
        work(*args)

    with monkeypatch.context() as patch:
        patch.setattr(engine, call, does_it_and_fails)
        with pytest.raises(type(error)):
            llama.generate("Hello! My name is Bixby.", sampling=GREEDY)
    assert not llama.session().active
    assert llama.session().messages == []
    answer = llama.generate("Hello! My name is Bixby.", sampling=GREEDY)
    assert_as_from_nothing(llama, (), answer, "Hello! My name is Bixby.")


# what else can be done with it


@tools
def test_after_it_turns_are_continued_forked_rewound_and_answered_anew(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Bixby.", sampling=GREEDY)
    first = llama.generate(NAME, sampling=GREEDY)
    assert first.usage.cached_tokens > 3
    tokens = llama.session().tokens
    assert llama.regenerate(sampling=GREEDY).text == first.text
    assert llama.session().tokens == tokens
    branch = llama.session_fork("branch")
    assert "Zorvane" in llama.generate_continue(ASK, sampling=GREEDY).text
    assert llama.session().n_turns == 2
    llama.session_rewind()
    assert llama.session().tokens == tokens
    again = branch.generate_continue(ASK, sampling=GREEDY)
    assert again.usage.cached_tokens == len(tokens)
    assert "Zorvane" in again.text
    branch.generate(ASK, sampling=GREEDY)
    assert branch.n_turns == 1
    assert llama.session().tokens == tokens
    llama.session_rewind()
    assert not llama.session().active
    assert "Zorvane" in branch.fork().generate(NAME, sampling=GREEDY).text
    assert_ledger_rule(llama)


@tools
@pytest.mark.parametrize("memory", [0, 60_000, 1 << 30])
def test_named_sessions_stay_apart_under_any_bound(llama_backend: str, memory: int) -> None:
    names = {"one": "Zorvane", "two": "Bixby", "three": "Marlow"}
    with LlamaBridge(
        "demo", backend=llama_backend, sampling=GREEDY, session_memory=memory
    ) as llama:
        for _ in range(2):
            for key, name in names.items():
                llama.session(key).generate(f"Hello! My name is {name}.")
            for key, name in names.items():
                session = llama.session(key)
                held = session.tokens
                answer = session.generate_continue(ASK)
                assert name in answer.text
                assert answer.usage.prompt_tokens > len(held)
                assert answer.mode is Mode.CONTINUED
        session = llama.session("one")
        before = session.tokens
        # Its own beginning serves once it has the cache.
        usage = session.generate("Hello! My name is Zorvane.").usage
        assert usage.evaluated_tokens == 1
        assert session.tokens == before[: len(session.tokens)]
        assert "Bixby" in llama.session("two").generate_continue(ASK).text
        assert_ledger_rule(llama)


@files
def test_it_is_saved_and_loaded_as_any_other(llama: LlamaBridge, tmp_path: Path) -> None:
    llama.generate("Hello! My name is Bixby.", sampling=GREEDY)
    llama.generate(NAME, sampling=GREEDY)
    tokens = llama.session().tokens
    llama.session_save(tmp_path / "s")
    assert llama.session_verify(tmp_path / "s", deep=True).ok
    llama.session_reset()
    assert llama.session_load(tmp_path / "s").n_tokens == len(tokens)
    answer = llama.generate_continue(ASK, sampling=GREEDY)
    assert answer.usage.cached_tokens == len(tokens)
    assert "Zorvane" in answer.text
    assert_ledger_rule(llama)


@files
def test_what_came_from_a_file_serves_no_other_conversation(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    llama.generate(NAME, sampling=GREEDY)
    llama.session_save(tmp_path / "s")
    llama.session_load(tmp_path / "s")
    # A file may say that its cells are of tokens that they are not.
    assert llama.generate(NAME, sampling=GREEDY).usage.cached_tokens == 0
    assert llama.generate(NAME, sampling=GREEDY).usage.evaluated_tokens == 1


# without it


@pytest.mark.parametrize(
    "make",
    [
        lambda fake: fake("Yes.", lacks="prefix_cache"),
        lambda fake: fake("Yes.", memory=MemoryKind.RECURRENT),
        lambda fake: fake("Yes.", memory=MemoryKind.HYBRID),
    ],
)
def test_without_the_capability_every_fresh_prompt_is_evaluated_whole(
    fake_llama: type[FakeLlama], make: Callable[[type[FakeLlama]], FakeLlama]
) -> None:
    llama = make(fake_llama)
    assert Capability.PREFIX_CACHE not in llama.capabilities
    whole = llama.generate("Hello!").usage
    for prompt in ("Hello!", "Hello! And you?"):
        usage = llama.generate(prompt).usage
        assert usage.cached_tokens == 0
        assert usage.evaluated_tokens == usage.prompt_tokens >= whole.prompt_tokens


def test_an_answer_is_asked_for_with_the_whole_prompt(fake_llama: type[FakeLlama]) -> None:
    llama = fake_llama("Yes.")
    assert Capability.PREFIX_CACHE in llama.capabilities
    for prompt in ("Hello!", "Hello! And you?", "Hello!"):
        llama.generate(prompt)
        assert llama.asked[-1].prompt == prompt
        assert llama.asked[-1].context.count("Hello!") == 1
    assert llama.generate("Hello!").usage.evaluated_tokens == 1
