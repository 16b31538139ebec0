"""What one call gives back, on every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_bridge import (
    Capability,
    Fallback,
    FallbackWarning,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    ToolCall,
)
from llama_bridge.testing import FakeLlama
from tests.ledger import GREEDY, engine_of

pytestmark = pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")


def test_a_told_name_is_said_back_when_continued_and_not_when_fresh(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    again = llama.generate_continue("What is my name?", sampling=GREEDY)
    fresh = llama.generate("What is my name?", sampling=GREEDY)
    assert ("Zorblax" in again.text) == (Capability.KV_CONTINUATION in llama.capabilities)
    assert "Zorblax" not in fresh.text


@pytest.mark.not_remote("what a server has in its cache is its own affair")
@pytest.mark.requires_capability("kv_continuation")
def test_a_continued_turn_evaluates_only_what_is_new(llama: LlamaBridge) -> None:
    first = llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    held = len(llama.session().tokens)
    again = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert again.mode is Mode.CONTINUED
    assert again.fallback is None
    assert again.usage.cached_tokens == held
    assert again.usage.cached_tokens + again.usage.evaluated_tokens == again.usage.prompt_tokens
    assert again.usage.evaluated_tokens <= first.usage.evaluated_tokens
    assert len(llama.session().tokens) == again.usage.prompt_tokens + again.usage.completion_tokens


@pytest.mark.requires_capability("kv_continuation")
def test_a_continued_chat_holds_exactly_what_the_template_writes(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    answer = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert answer.finish_reason == "stop"
    text = llama.apply_chat_template(llama.session().messages, add_generation_prompt=False)
    whole = llama.tokenize(text)
    # The template may write white space behind the last end of turn; the model stops at it.
    assert tuple(whole[: len(llama.session().tokens)]) == llama.session().tokens
    assert llama.info.bos is None or llama.session().tokens.count(llama.info.bos) == 1


@pytest.mark.lacks_capability("kv_continuation")
def test_without_continuation_a_continue_is_a_fresh_generation_and_says_so(
    llama: LlamaBridge,
) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    with pytest.warns(FallbackWarning, match="kv_continuation") as caught:
        again = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert caught[0].filename == __file__
    assert again.mode is Mode.FRESH
    assert again.fallback is Fallback.UNSUPPORTED
    assert "kv_continuation" in str(again.fallback)
    assert again.usage.prompt_tokens == again.usage.cached_tokens + again.usage.evaluated_tokens
    assert "Zorblax" not in again.text
    fresh = llama.generate("What is my name?", sampling=GREEDY)
    assert again.text == fresh.text
    assert again.usage.prompt_tokens == fresh.usage.prompt_tokens


@pytest.mark.lacks_capability("kv_continuation")
def test_the_fallback_warns_once_per_bridge(
    llama: LlamaBridge, recwarn: pytest.WarningsRecorder
) -> None:
    llama.generate_continue("Hello!", sampling=GREEDY)
    for _ in llama.generate_continue_stream("Hello!", sampling=GREEDY):
        pass
    assert sum(w.category is FallbackWarning for w in recwarn) == 1


def test_continue_without_a_session_is_fresh_with_its_reason(llama: LlamaBridge) -> None:
    answer = llama.generate_continue("Hello!", sampling=GREEDY)
    assert answer.mode is Mode.FRESH
    assert answer.fallback
    assert answer.text == llama.generate("Hello!", sampling=GREEDY).text
    assert llama.generate("Hello!", sampling=GREEDY).fallback is None


def test_streaming_and_plain_calls_agree(llama: LlamaBridge) -> None:
    plain = [llama.generate("Hello! My name is Bo.", sampling=GREEDY)]
    plain.append(llama.generate_continue("What is my name?", sampling=GREEDY))
    first = llama.generate_stream("Hello! My name is Bo.", sampling=GREEDY)
    deltas = list(first)
    second = llama.generate_continue_stream("What is my name?", sampling=GREEDY)
    assert "".join(deltas) == first.result.text == plain[0].text
    assert len(deltas) > 2
    assert "".join(second) == second.result.text == plain[1].text
    for streamed, whole in zip((first.result, second.result), plain, strict=True):
        assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens
        assert streamed.usage.completion_tokens == whole.usage.completion_tokens
        assert streamed.finish_reason == whole.finish_reason
        assert streamed.mode == whole.mode


@pytest.mark.not_remote("what a server has in its cache is its own affair")
def test_usage_is_measured(llama: LlamaBridge) -> None:
    usage = llama.generate("Who are you?", sampling=GREEDY).usage
    assert usage.prompt_tokens == usage.evaluated_tokens > 0
    assert usage.cached_tokens == 0
    assert usage.completion_tokens > 3
    assert 0 < usage.prompt_seconds < 60
    assert 0 < usage.completion_seconds < 60
    assert usage.tokens_per_second == usage.completion_tokens / usage.completion_seconds


def test_max_tokens_is_the_most_that_is_drawn(llama: LlamaBridge) -> None:
    for n in (1, 2, 5):
        answer = llama.generate(
            "Who are you?", sampling=SamplingParams(temperature=0, max_tokens=n)
        )
        assert answer.finish_reason == "length"
        assert answer.usage.completion_tokens == n


def test_the_same_seed_gives_the_same_text_and_others_differ(llama: LlamaBridge) -> None:
    def draw(seed: int | None) -> tuple[str, int]:
        params = SamplingParams(
            temperature=1.5, top_p=1, top_k=0, min_p=0, seed=seed, max_tokens=24
        )
        answer = llama.generate("Once", chat=False, sampling=params)
        return answer.text, answer.seed

    assert draw(11) == draw(11)
    assert len({draw(seed)[0] for seed in range(6)}) > 1
    text, seed = draw(None)
    assert draw(seed)[0] == text
    assert draw(None)[1] != seed


def test_penalties_keep_a_model_from_repeating(llama: LlamaBridge) -> None:
    plain = SamplingParams(temperature=0, max_tokens=60)
    firm = SamplingParams(temperature=0, max_tokens=60, repeat_penalty=5.0, repeat_last_n=256)
    prompt = "ab ab ab ab ab ab ab ab"
    free = llama.generate(prompt, chat=False, sampling=plain).usage.completion_tokens
    llama.generate(prompt, chat=False, sampling=firm)
    tokens = llama.session().tokens[len(llama.tokenize(prompt)) :]
    # A token of the last 256 cannot be drawn again while another has any chance.
    assert free > 0
    assert len(set(tokens)) >= 0.9 * len(tokens)


@pytest.mark.parametrize("width", range(1, 12))
def test_stop_strings_are_found_across_token_borders(llama: LlamaBridge, width: int) -> None:
    whole = llama.generate("Who are you?", sampling=GREEDY).text
    for start in range(1, len(whole) - width, 5):
        stop = whole[start : start + width]
        stream = llama.generate_stream("Who are you?", sampling=GREEDY, stop=[stop, "\x00never"])
        shown = "".join(stream)
        assert shown == stream.result.text == whole[: whole.index(stop)]
        assert stream.result.finish_reason == "stop"


def test_a_stop_string_that_does_not_come_holds_nothing_back(llama: LlamaBridge) -> None:
    whole = llama.generate("Who are you?", sampling=GREEDY).text
    assert llama.generate("Who are you?", sampling=GREEDY, stop=[whole + "x"]).text == whole


@pytest.mark.requires_capability("kv_continuation")
def test_a_stop_string_is_not_in_the_conversation(llama: LlamaBridge) -> None:
    whole = llama.generate("Who are you?", sampling=GREEDY).text
    stop = whole[9:14]
    cut = llama.generate("Who are you?", sampling=GREEDY, stop=stop)
    assert llama.detokenize(llama.session().tokens).endswith(cut.text)
    llama.generate_continue("Thanks!", sampling=GREEDY)
    text = llama.apply_chat_template(llama.session().messages, add_generation_prompt=False)
    assert llama.detokenize(llama.tokenize(text)).startswith(
        llama.detokenize(llama.session().tokens)
    )


@pytest.mark.parametrize("wrong", [b"abc", bytearray(b"abc"), memoryview(b"abc"), "abc", 5])
def test_bytes_are_no_tokens_though_they_are_numbers(llama: LlamaBridge, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="tokens"):
        llama.detokenize(wrong)


@pytest.mark.parametrize("text", ["日本語のテキスト", "naïve café", "🧠🔬 emoji", "Zoë Æsir ß"])
def test_characters_split_over_tokens_come_out_whole(llama: LlamaBridge, text: str) -> None:
    tokens = llama.tokenize(text, add_special=False)
    assert len(tokens) > 1
    assert llama.detokenize(tokens).strip() == text
    # Whatever bytes a hot model draws, no delta ends inside a character.
    hot = SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, seed=5, max_tokens=80)
    stream = llama.generate_stream(text, chat=False, sampling=hot)
    assert "".join(stream).encode().decode() == stream.result.text


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (InvalidInput, {"prompt": 5}),
        (InvalidInput, {"prompt": b"bytes"}),
        (InvalidInput, {"prompt": "x", "stop": [""]}),
        (InvalidInput, {"prompt": "x", "stop": [3]}),
        (InvalidInput, {"prompt": "x", "sampling": {"temperature": 1}}),
        (InvalidInput, {"prompt": "x", "temperature": "hot"}),
        (InvalidInput, {"prompt": "x", "temprature": 1}),
        (InvalidInput, {"prompt": "x", "params": SamplingParams()}),
    ],
)
def test_bad_arguments_are_named_before_work_starts(
    llama: LlamaBridge, kind: type[Exception], arguments: dict[str, object]
) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().tokens
    for call in (llama.generate, llama.generate_continue, llama.generate_stream):
        with pytest.raises(kind):
            call(**arguments)  # type: ignore[arg-type]
    assert llama.session().tokens == before
    assert llama.generate("Hello!", sampling=GREEDY).text


def test_control_tokens_in_a_message_are_only_text(llama: LlamaBridge) -> None:
    end = llama.info.eos
    assert end is not None
    spelled = engine_of(llama).token_bytes(end, special=True).decode()
    llama.generate(f"Hello {spelled} there", sampling=GREEDY)
    prompt = llama.session().tokens[:-1]
    plain = llama.tokenize(spelled, add_special=False, parse_special=False)
    assert end not in prompt
    assert " ".join(map(str, plain[1:])) in " ".join(map(str, prompt))


def test_a_system_message_stands_before_the_first_turn(llama: LlamaBridge) -> None:
    llama.system = "You are brief."
    llama.generate("Hello!", sampling=GREEDY)
    assert [m["role"] for m in llama.session().messages] == ["system", "user", "assistant"]
    assert "You are brief." in llama.detokenize(llama.session().tokens)


def test_an_answer_with_a_value_has_a_hash_like_any_other() -> None:
    with FakeLlama('{"a": 1}') as fake:
        answer = fake.generate("x", json_schema={"properties": {"a": {"const": 1}}})
    assert answer.parsed == {"a": 1}
    call = ToolCall("1", "f", {"a": 1})
    assert len({answer, replace(answer, tool_calls=(call,)), answer}) == 2
