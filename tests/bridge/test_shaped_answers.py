"""Answers that follow a schema or a grammar, and what is reported of their tokens."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from llama_bridge import (
    EngineError,
    FinishReason,
    Generation,
    InvalidAnswer,
    InvalidInput,
    InvalidSchema,
    LlamaBridge,
    SamplingParams,
    UnsupportedCapability,
)
from llama_bridge.testing import FakeLlama
from tests.ledger import engine_of

pytestmark = pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["cat", "dog", "fish"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
YES_OR_NO = 'root ::= "yes" | "no"'
WILD = SamplingParams(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=3)
ASKING = ("generate", "generate_stream", "generate_continue", "generate_continue_stream")


@dataclass
class Person:
    name: str
    age: int


@dataclass
class Grown:
    age: int

    def __post_init__(self) -> None:
        raise ValueError("too young")


class Named(TypedDict):
    name: str


def asked(call: Callable[..., Any], *given: object, **keywords: object) -> Generation:
    answer = call(*given, **keywords)
    result = getattr(answer, "result", answer)
    assert isinstance(result, Generation)
    return result


def is_person(value: Any) -> bool:
    return (
        list(value) == ["name", "age", "kind"]
        and len(value["name"]) <= 12
        and 0 <= value["age"] <= 120
        and value["kind"] in ("cat", "dog", "fish")
    )


def test_every_generating_call_takes_a_schema(llama: LlamaBridge) -> None:
    for conversation in (llama, llama.session()):
        for call in ASKING:
            for sampling in (SamplingParams(temperature=0), WILD):
                answer = asked(
                    getattr(conversation, call),
                    "My name is Ada.",
                    json_schema=PERSON,
                    sampling=sampling,
                )
                assert answer.finish_reason == "stop"
                assert answer.parsed == json.loads(answer.text)
                assert is_person(answer.parsed)


@pytest.mark.requires_capability("session_tools")
def test_an_answer_can_be_given_again_in_another_shape(llama: LlamaBridge) -> None:
    llama.generate("My name is Ada.", temperature=0)
    for call in ("regenerate", "regenerate_stream"):
        for conversation in (llama, llama.session()):
            assert is_person(asked(getattr(conversation, call), json_schema=PERSON).parsed)
            assert asked(getattr(conversation, call), grammar=YES_OR_NO).text in ("yes", "no")
    assert llama.session().n_turns == 1


def test_what_was_streamed_is_the_answer(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("My name is Ada.", json_schema=PERSON, temperature=0)
    texts = list(stream)
    assert len(texts) > 3
    assert "".join(texts) == stream.result.text
    assert stream.result is stream.result
    assert is_person(stream.result.parsed)


def test_a_grammar_alone_parses_nothing(llama: LlamaBridge) -> None:
    answer = llama.generate("Are you a model?", grammar=YES_OR_NO)
    assert answer.text in ("yes", "no")
    assert answer.finish_reason == "stop"
    assert answer.parsed is None


def test_classes_come_back_as_instances(llama: LlamaBridge) -> None:
    short = SamplingParams(temperature=0, max_tokens=None)
    with FakeLlama('{"name": "Ada", "age": 36}', sampling=short) as fake:
        assert fake.generate("x", json_schema=Person).parsed == Person("Ada", 36)
        assert fake.generate("x", json_schema=Named).parsed == {"name": "Ada"}
    assert type(llama.generate("x", json_schema=True, temperature=0).parsed) in (
        bool, dict, float, int, list, str, type(None)
    )  # fmt: skip


def test_pydantic_models_come_back_as_instances() -> None:
    pydantic = pytest.importorskip("pydantic")
    city = pydantic.create_model("City", name=(str, ...), people=(int, ...))
    with FakeLlama('{"name": "Oslo", "people": 7}') as llama:
        assert llama.generate("x", json_schema=city).parsed == city(name="Oslo", people=7)


def test_a_class_that_refuses_its_own_answer_loses_nothing() -> None:
    with FakeLlama('{"age": 5}') as llama:
        with pytest.raises(InvalidAnswer, match="too young") as caught:
            llama.generate("x", json_schema=Grown)
        assert caught.value.text == '{"age": 5}'
        assert isinstance(caught.value.__cause__, ValueError)
        assert llama.session().messages[-1]["content"] == '{"age": 5}'


@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_what_is_cut_off_is_no_value(llama: LlamaBridge, most: int) -> None:
    answer = llama.generate("x", json_schema=PERSON, max_tokens=most, temperature=0)
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == most
    assert answer.parsed is None
    assert len(llama.session().tokens) == engine_of(llama).length


def test_what_is_cancelled_is_no_value() -> None:
    with FakeLlama('{"name": "Ada", "age": 5, "kind": "cat"}') as llama:
        stream = llama.generate_stream("x", json_schema=PERSON)
        said = next(stream)
        llama.cancel()
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.text == said
        assert stream.result.parsed is None
        assert llama.session().messages[-1]["content"] == said


def test_the_fake_fits_any_answer_into_a_schema() -> None:
    for text, name in (
        ('{"name":"Ada","age":5,"kind":"dog"}', "Ada"),
        (' {\n "name": "Ada" }', "Ada"),
        ("You said", "You said"),
        ("", ""),
    ):
        with FakeLlama(text) as llama:
            answer = llama.generate("x", json_schema=PERSON)
            assert is_person(answer.parsed)
            assert answer.parsed["name"] == name


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"json_schema": PERSON, "grammar": YES_OR_NO}, InvalidInput, "json_schema and grammar"),
    ({"json_schema": PERSON, "stop": "}"}, InvalidInput, "stop"),
    ({"grammar": YES_OR_NO, "stop": ["y"]}, InvalidInput, "stop"),
    ({"json_schema": 5}, InvalidInput, "json_schema"),
    ({"json_schema": "{"}, InvalidInput, "json_schema"),
    ({"json_schema": {"type": "dragon"}}, InvalidSchema, "type"),
    ({"json_schema": {"minimum": "x"}}, InvalidSchema, "minimum"),
    ({"grammar": ""}, InvalidInput, "grammar"),
    ({"grammar": "root ::= missing"}, InvalidInput, "missing"),
    ({"grammar": "root ::= " + "(" * 100_000}, InvalidInput, "grammar"),
    ({"grammar": 5}, InvalidInput, "grammar"),
    ({"logprobs": -1}, InvalidInput, "logprobs=-1"),
    ({"logprobs": 21}, InvalidInput, "logprobs=21"),
    ({"logprobs": True}, InvalidInput, "logprobs=True"),
    ({"logprobs": 1.5}, InvalidInput, "logprobs=1.5"),
    ({"logit_bias": {5: math.nan}}, InvalidInput, "logit_bias[5]=nan"),
    ({"logit_bias": {5: math.inf}}, InvalidInput, "logit_bias[5]=inf"),
    ({"logit_bias": {"more than a token": 1}}, InvalidInput, "more than a token"),
    ({"logit_bias": {10**9: 1}}, InvalidInput, str(10**9)),
    ({"mirostat": 1}, InvalidInput, "mirostat=1"),
    ({"dry_base": 0.5}, InvalidInput, "dry_base=0.5"),
    ({"dry_sequence_breakers": "\n"}, InvalidInput, "dry_sequence_breakers"),
    ({"dry_sequence_breakers": [""]}, InvalidInput, "dry_sequence_breakers"),
]


@pytest.mark.parametrize(("keywords", "error", "named"), WRONG)
def test_what_cannot_be_is_refused_before_any_work(
    keywords: dict[str, Any], error: type[Exception], named: str
) -> None:
    with FakeLlama() as llama:
        llama.generate("before")
        tokens = llama.session().tokens
        for call in (*ASKING, "regenerate", "regenerate_stream"):
            given = () if call.startswith("regenerate") else ("x",)
            with pytest.raises(error, match=re.escape(named)):
                getattr(llama, call)(*given, **keywords)
        assert llama.session().tokens == tokens
        assert len(llama.asked) == 1


def test_a_backend_without_them_says_so_before_any_work() -> None:
    for flag, keywords in (
        ("json_schema", {"json_schema": True}),
        ("json_schema", {"grammar": YES_OR_NO}),
        ("logprobs", {"logprobs": 0}),
    ):
        with FakeLlama(lacks=flag) as llama:
            with pytest.raises(UnsupportedCapability, match=flag):
                llama.generate("x", **keywords)
            assert llama.asked == []
            assert llama.generate("x").text


# log-probabilities


def test_each_token_of_an_answer_has_its_log_probability(llama: LlamaBridge) -> None:
    answer = llama.generate("My name is Ada.", temperature=0, logprobs=3)
    tokens = answer.logprobs
    assert tokens is not None
    assert len(tokens) == answer.usage.completion_tokens
    assert b"".join(one.data for one in tokens[:-1]).decode() == answer.text
    assert tokens[-1].token in llama.info.end_of_generation
    for one in tokens:
        assert -50 < one.logprob <= 0
        assert len(one.top) == 3
        assert one.top[0].token == one.token, "greedy takes the best"
        assert one.top[0].logprob == pytest.approx(one.logprob, abs=1e-5)
        assert one.text == one.data.decode("utf-8", "replace")
        assert sum(math.exp(other.logprob) for other in one.top) < 1 + 1e-4
    plain = llama.generate("My name is Ada.", temperature=0)
    assert plain.logprobs is None
    assert plain.text == answer.text


def test_log_probabilities_are_of_the_model_and_not_of_what_shapes_the_answer(
    llama: LlamaBridge,
) -> None:
    free = llama.generate("My name is Ada.", temperature=0, logprobs=2, max_tokens=1).logprobs
    shaped = llama.generate(
        "My name is Ada.", temperature=0, logprobs=2, grammar=YES_OR_NO, max_tokens=1
    ).logprobs
    assert free is not None
    assert shaped is not None
    assert [one.token for one in free[0].top] == [one.token for one in shaped[0].top]
    assert shaped[0].logprob < free[0].logprob
    alone = llama.generate("x", temperature=0, logprobs=0, max_tokens=1).logprobs
    assert alone is not None
    assert alone[0].top == ()


@pytest.mark.not_remote("a server does not tell its tokens")
def test_a_token_can_be_banned_by_its_text(llama: LlamaBridge) -> None:
    free = llama.generate("My name is Ada.", temperature=0, logprobs=0)
    assert free.logprobs is not None
    first = free.logprobs[0]
    answer = llama.generate("My name is Ada.", temperature=0, logit_bias={first.text: -math.inf})
    assert not answer.text.startswith(first.text)
    assert llama.generate("My name is Ada.", temperature=0).text == free.text


@pytest.mark.not_remote("a server does not tell its tokens")
def test_sampling_of_an_answer_is_kept_as_it_was_given(llama: LlamaBridge) -> None:
    settings = {
        "logit_bias": {"a": 1.5, 5: -math.inf},
        "dry_multiplier": 0.5,
        "xtc_probability": 0.1,
        "mirostat": 2,
    }
    llama.generate("x", max_tokens=2, **settings)  # type: ignore[arg-type]
    assert llama.sampling == SamplingParams(temperature=llama.sampling.temperature, **{
        name: getattr(llama.sampling, name) for name in ("max_tokens", "seed")
    })  # fmt: skip


# what is forced


def drawn_and_appended(llama: LlamaBridge, **keywords: Any) -> tuple[int, list[int], Generation]:
    """How many tokens an answer draws, how many it appends in each decode, and the answer."""
    engine = engine_of(llama)
    drawn, appended = 0, list[int]()
    sample, step, decode = engine.sample, engine.step, engine.decode

    def count_sample() -> int:
        nonlocal drawn
        drawn += 1
        return sample()

    def count_step(token: int) -> int | None:
        nonlocal drawn
        drawn += 1
        return step(token)

    def count_decode(tokens: Sequence[int]) -> int:
        appended.append(len(tokens))
        return decode(tokens)

    engine.sample, engine.step, engine.decode = count_sample, count_step, count_decode  # type: ignore[method-assign]
    try:
        answer = llama.generate("My name is Ada.", **keywords)
    finally:
        engine.sample, engine.step, engine.decode = sample, step, decode  # type: ignore[method-assign]
    return drawn, appended[1:], answer


LONG_KEYS = {
    "type": "object",
    "properties": {f"a_very_long_name_of_a_property_{i}": {"type": "boolean"} for i in range(3)},
    "required": [f"a_very_long_name_of_a_property_{i}" for i in range(3)],
    "additionalProperties": False,
}


@pytest.mark.not_remote("a server does not tell its tokens")
def test_a_grammar_with_ever_more_readings_ends_the_answer(llama: LlamaBridge) -> None:
    # Each "a" doubles the readings. llama.cpp would follow all of them, until memory ends.
    grammar = 'root ::= "a" root "x" | "a" root "y" | "b"'
    llama.generate("Hello.")
    with pytest.raises(EngineError, match="too many ways"):
        llama.generate("Hi.", grammar=grammar, logit_bias={"b": -math.inf}, temperature=0)
    assert llama.generate("Hello.", temperature=0, max_tokens=3).text


def test_what_is_forced_is_appended_in_one_decode_and_not_drawn(llama: LlamaBridge) -> None:
    drawn, appended, answer = drawn_and_appended(llama, json_schema=LONG_KEYS, temperature=0)
    assert answer.finish_reason == "stop"
    assert list(answer.parsed) == LONG_KEYS["required"]
    assert drawn < answer.usage.completion_tokens / 2
    assert max(appended) > 8
    without, _, again = drawn_and_appended(llama, json_schema=LONG_KEYS, temperature=0, logprobs=0)
    assert without == again.usage.completion_tokens, "each token with a log-probability is drawn"
    assert again.parsed == answer.parsed


@pytest.mark.parametrize("most", range(1, 24, 3))
def test_forced_tokens_count_and_end_where_they_must(llama: LlamaBridge, most: int) -> None:
    whole = llama.generate("x", json_schema=LONG_KEYS, temperature=0)
    cut = llama.generate("x", json_schema=LONG_KEYS, temperature=0, max_tokens=most)
    expected: FinishReason = "length"
    assert (cut.finish_reason, cut.usage.completion_tokens) == (expected, most)
    assert whole.text.startswith(cut.text)
    assert len(llama.session().tokens) == engine_of(llama).length


def test_forced_text_outside_ascii_is_whole(llama: LlamaBridge) -> None:
    grammar = 'root ::= "größer als 7 €: " ("ja" | "nein") " – 世界!"'
    assert re.fullmatch(
        "größer als 7 €: (ja|nein) – 世界!",
        llama.generate("x", grammar=grammar, temperature=0).text,
    )
