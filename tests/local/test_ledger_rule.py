"""After any sequence of calls: ledger length == last position + 1, and it continues as if evaluated afresh."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import (
    Capability,
    ContextOverflow,
    InvalidInput,
    LlamaBridge,
    Mode,
    SamplingParams,
    SessionError,
)
from tests.ledger import GREEDY, assert_ledger_rule, engine_of

pytestmark = pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")

LONG = SamplingParams(temperature=0, max_tokens=200)


def chat(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    llama.generate_continue("What is my name?", sampling=GREEDY)


def raw(llama: LlamaBridge) -> None:
    llama.generate("Once upon a time", chat=False, sampling=GREEDY)
    llama.generate_continue(" and then", chat=False, sampling=GREEDY)


def raw_then_chat(llama: LlamaBridge) -> None:
    llama.generate("Once upon a time", chat=False, sampling=GREEDY)
    llama.generate_continue("What is my name?", sampling=GREEDY)
    llama.generate_continue("Thanks!", sampling=GREEDY)


def streaming(llama: LlamaBridge) -> None:
    assert "".join(llama.generate_stream("Hello!", sampling=GREEDY))
    assert "".join(llama.generate_continue_stream("Who are you?", sampling=GREEDY))


def stream_dropped(llama: LlamaBridge) -> None:
    for _ in llama.generate_stream("Who are you?", sampling=GREEDY):
        break


def stream_closed_then_continued(llama: LlamaBridge) -> None:
    with llama.generate_stream("Who are you?", sampling=GREEDY) as stream:
        next(stream)
        next(stream)
    llama.generate_continue("Thanks!", sampling=GREEDY)


def stream_never_started(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    llama.generate_stream("Who are you?", sampling=GREEDY)


def sampled(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=SamplingParams(temperature=1.2, seed=7, max_tokens=30))
    llama.generate_continue(
        "Hm?", sampling=SamplingParams(temperature=1.2, repeat_penalty=1.3, seed=8)
    )


def length_limited(llama: LlamaBridge) -> None:
    assert (
        llama.generate("Who are you?", sampling=SamplingParams(max_tokens=1)).finish_reason
        == "length"
    )
    llama.generate_continue("Thanks!", sampling=SamplingParams(temperature=0, max_tokens=3))


def stopped_by_string(llama: LlamaBridge) -> None:
    text = llama.generate("Who are you?", sampling=GREEDY).text
    cut = llama.generate("Who are you?", sampling=GREEDY, stop=text[7:11])
    assert cut.finish_reason == "stop"
    assert cut.text == text[: text.index(text[7:11])]
    llama.generate_continue("Thanks!", sampling=GREEDY)


def cancelled_in_decode(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("Who are you?", sampling=LONG)
    next(stream)
    llama.cancel()
    assert stream.result.finish_reason == "cancelled"
    assert llama.generate_continue("Thanks!", sampling=GREEDY).finish_reason != "cancelled"


def cancelled_before_first_token(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    stream = llama.generate_continue_stream("What is my name?", sampling=GREEDY)
    llama.cancel()
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text == ""


def refused_input(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().tokens
    for bad in ("", "   ", "x" * 100_000, "\ud800"):
        with pytest.raises(InvalidInput):
            llama.generate_continue(bad, sampling=GREEDY)
        with pytest.raises(InvalidInput):
            llama.generate(bad, sampling=GREEDY)
    assert llama.session().tokens == before


def reset(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    llama.session_reset()
    assert llama.session().tokens == ()
    assert llama.session().messages == []


def reset_then_continued(llama: LlamaBridge) -> None:
    reset(llama)
    assert llama.generate_continue("Hello!", sampling=GREEDY).mode is Mode.FRESH


def fresh_upon_fresh(llama: LlamaBridge) -> None:
    for prompt in ("Who are you?", "Who are you? And I?", "Who are you?", "Who am I?", "Thanks!"):
        llama.generate(prompt, sampling=GREEDY)
        llama.generate(prompt, chat=False, sampling=SamplingParams(temperature=0, max_tokens=3))
    llama.generate_continue("Thanks!", sampling=GREEDY)


def fresh_and_cancelled(llama: LlamaBridge) -> None:
    llama.generate("Who are you?", sampling=GREEDY)
    stream = llama.generate_stream("Who are you?", sampling=GREEDY)
    next(stream)
    llama.cancel()
    assert stream.result.finish_reason == "cancelled"
    llama.generate("Who are you?", sampling=GREEDY, stop="language")


OBJECT = {
    "type": "object",
    "properties": {"a_long_name": {"enum": ["one", "two"]}},
    "required": ["a_long_name"],
}


def structured(llama: LlamaBridge) -> None:
    assert llama.generate("Who are you?", sampling=GREEDY, json_schema=OBJECT).parsed
    assert llama.generate_continue("Thanks!", sampling=GREEDY, json_schema=OBJECT).parsed
    llama.generate_continue("Thanks!", sampling=GREEDY)


def structured_and_cut_off(llama: LlamaBridge) -> None:
    for most in range(1, 12):
        short = SamplingParams(temperature=0, max_tokens=most)
        assert llama.generate("Who are you?", sampling=short, json_schema=OBJECT).parsed is None
    llama.generate_continue("Thanks!", sampling=GREEDY)


def structured_and_cancelled(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("Who are you?", sampling=LONG, json_schema=OBJECT)
    next(stream)
    llama.cancel()
    assert stream.result.finish_reason == "cancelled"
    llama.generate_continue("Thanks!", sampling=GREEDY)


def structured_and_dropped(llama: LlamaBridge) -> None:
    for _ in llama.generate_stream("Who are you?", sampling=GREEDY, json_schema=OBJECT):
        break


SEQUENCES: list[Callable[[LlamaBridge], None]] = [
    chat,
    raw,
    raw_then_chat,
    streaming,
    stream_dropped,
    stream_closed_then_continued,
    stream_never_started,
    sampled,
    length_limited,
    stopped_by_string,
    cancelled_in_decode,
    cancelled_before_first_token,
    refused_input,
    reset,
    reset_then_continued,
    fresh_upon_fresh,
    fresh_and_cancelled,
    structured,
    structured_and_cut_off,
    structured_and_cancelled,
    structured_and_dropped,
]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda f: f.__name__)
def test_ledger_rule_holds_after(
    llama: LlamaBridge, sequence: Callable[[LlamaBridge], None]
) -> None:
    sequence(llama)
    assert_ledger_rule(llama)


@pytest.mark.requires_capability("session_persistence")
@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda f: f.__name__)
def test_ledger_rule_holds_after_save_and_load(
    llama: LlamaBridge, sequence: Callable[[LlamaBridge], None], tmp_path: Path
) -> None:
    sequence(llama)
    if not llama.session().active:
        with pytest.raises(SessionError, match="no session to save"):
            llama.session_save(tmp_path / "s")
        return
    tokens, messages = llama.session().tokens, list(llama.session().messages)
    llama.session_save(tmp_path / "s")
    llama.generate("Something else.", sampling=GREEDY)
    llama.session_load(tmp_path / "s")
    assert (llama.session().tokens, llama.session().messages) == (tokens, messages)
    assert_ledger_rule(llama)


def test_overflow_is_refused_before_anything_is_evaluated(llama: LlamaBridge) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().tokens
    with pytest.raises(ContextOverflow) as caught:
        llama.generate_continue("word " * llama.info.n_ctx, sampling=GREEDY)
    assert caught.value.needed > caught.value.n_ctx == llama.info.n_ctx
    assert llama.session().tokens == before
    assert_ledger_rule(llama)


def test_generation_ends_with_the_context_and_then_overflows(llama: LlamaBridge) -> None:
    n_ctx = llama.info.n_ctx
    text = "a" * 4 * n_ctx
    while len(llama.tokenize(text)) > n_ctx - 4:
        text = text[: -max(1, len(text) // 50)]
    for seed in range(20):  # a hot model may also end by itself
        hot = SamplingParams(temperature=3, top_k=0, top_p=1, min_p=0, seed=seed, max_tokens=None)
        answer = llama.generate(text, chat=False, sampling=hot)
        if answer.finish_reason == "length":
            break
    assert answer.finish_reason == "length"
    assert len(llama.session().tokens) == engine_of(llama).length == n_ctx
    if Capability.KV_CONTINUATION in llama.capabilities:
        with pytest.raises(ContextOverflow):
            llama.generate_continue("more", chat=False)
    assert len(llama.session().tokens) == n_ctx


def test_two_threads_queue_and_lose_nothing(llama: LlamaBridge) -> None:
    results: list[str] = []

    def work(i: int) -> None:
        for _ in range(3):
            results.append(llama.generate_continue(f"My name is Thread{i}.", sampling=GREEDY).text)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(results) == 9
    assert all(results)
    assert_ledger_rule(llama)
