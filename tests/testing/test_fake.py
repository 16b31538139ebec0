"""The fake: a LlamaBridge that says what a test tells it to."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from llama_bridge import (
    BackendUnavailable,
    Capability,
    ContextOverflow,
    EngineError,
    FallbackWarning,
    InvalidInput,
    LlamaBridge,
    MemoryKind,
    Mode,
    OutOfMemory,
    SamplingParams,
    SessionCorrupt,
    SessionMismatch,
    UnsupportedCapability,
)
from llama_bridge.testing import Asked, FakeAnswer, FakeBackend, FakeLlama, babble
from tests.ledger import assert_ledger_rule, engine_of

MakeFake = type[FakeLlama]


# what it says


def test_it_repeats_what_was_said_unless_told_otherwise(fake_llama: MakeFake) -> None:
    llama = fake_llama()
    assert llama.generate("Good morning!").text == "You said: Good morning!"
    assert llama.generate_continue("Grüße, 世界").text == "You said: Grüße, 世界"


def test_one_answer_serves_every_question(fake_llama: MakeFake) -> None:
    llama = fake_llama("42")
    assert [llama.generate(question).text for question in ("a", "b")] == ["42", "42"]


def test_a_list_is_worked_through_and_then_empty(fake_llama: MakeFake) -> None:
    llama = fake_llama(["one", FakeAnswer("two")])
    assert [llama.generate("next").text, llama.generate_continue("next").text] == ["one", "two"]
    with pytest.raises(EngineError, match="no answer left for 'once more'"):
        llama.generate_continue("once more")
    assert llama.session().messages[-1]["content"] == "two"


def test_an_endless_iterator_is_a_list_too(fake_llama: MakeFake) -> None:
    llama = fake_llama(itertools.cycle(["tick", "tock"]))
    assert [llama.generate("?").text for _ in range(3)] == ["tick", "tock", "tick"]


def test_a_mapping_answers_the_prompt_it_names(fake_llama: MakeFake) -> None:
    llama = fake_llama({"ping": "pong", "<|user|>\nping": "not fooled"})
    assert llama.generate("ping").text == "pong"
    assert llama.generate_continue("<|user|>\nping").text == "not fooled"
    with pytest.raises(EngineError, match="the fake has no answer to 'pin'; it has: 'ping'"):
        llama.generate_continue("pin")


def test_a_function_sees_what_the_kv_cache_holds(fake_llama: MakeFake) -> None:
    def remember(asked: Asked) -> str:
        return "Ada" if "I am Ada" in asked.context else "I do not know"

    llama = fake_llama(remember, system="Be brief.")
    assert llama.generate("I am Ada").text == "Ada"
    assert llama.generate_continue("Who am I?").text == "Ada"
    assert llama.generate("Who am I?").text == "I do not know"
    assert llama.asked[-1] == Asked(
        "Who am I?",
        "<s><|system|>\nBe brief.<|end|>\n<|user|>\nWho am I?<|end|>\n<|assistant|>\n",
    )


def test_raw_text_is_asked_as_it_stands(fake_llama: MakeFake) -> None:
    llama = fake_llama()
    assert llama.generate("Once upon", chat=False).text == "You said: Once upon"
    assert llama.generate_continue(" a time", chat=False).text == "You said:  a time"


def test_it_speaks_the_template_of_any_model() -> None:
    with LlamaBridge("demo", backend=FakeBackend({"hello": "hi", "again": "hi again"})) as llama:
        assert llama.generate("hello").text == "hi"
        assert llama.generate_continue("again").text == "hi again"
        assert llama.model.name == "llama-bridge demo"


def test_text_arrives_byte_by_byte_but_never_half_a_character(fake_llama: MakeFake) -> None:
    deltas = list(fake_llama("aé世").generate_stream("?"))
    assert deltas == ["a", "é", "世"]


def test_it_obeys_limits_stop_strings_and_the_context(fake_llama: MakeFake) -> None:
    llama = fake_llama("one two three", n_ctx=64)
    assert llama.generate("?", sampling=SamplingParams(max_tokens=3)).text == "one"
    assert llama.generate("?", stop=" three").text == "one two"
    with pytest.raises(ContextOverflow):
        llama.generate("?" * 64)


# capabilities


def test_without_continuation_it_falls_back_aloud(fake_llama: MakeFake) -> None:
    llama = fake_llama(lacks="kv_continuation")
    llama.generate("first")
    with pytest.warns(FallbackWarning):
        second = llama.generate_continue("second")
    assert second.mode is Mode.FRESH
    assert "first" not in llama.asked[-1].context


def test_capabilities_can_be_given_whole(fake_llama: MakeFake) -> None:
    llama = fake_llama(capabilities=Capability.GENERATE | Capability.SANDBOX)
    assert llama.capabilities == Capability.GENERATE | Capability.SANDBOX
    with pytest.raises(UnsupportedCapability, match="chat_template"):
        llama.generate("hi", chat=True)


def test_a_capability_that_does_not_exist_is_refused_with_those_that_do(
    fake_llama: MakeFake,
) -> None:
    with pytest.raises(
        InvalidInput, match="no capability named 'telepathy'; choose from: generate"
    ):
        fake_llama(capabilities=["generate", "telepathy"])


# sessions


def test_a_session_survives_in_a_file(fake_llama: MakeFake, tmp_path: Path) -> None:
    llama = fake_llama(babble)
    llama.generate("My name is Ada.")
    llama.session_save(tmp_path / "chat.session")
    expected = llama.generate_continue("And?")

    other = fake_llama(babble)
    info = other.session_load(tmp_path / "chat.session")
    assert info.messages[0]["content"] == "My name is Ada."
    continued = other.generate_continue("And?")
    assert (continued.text, continued.mode) == (expected.text, Mode.CONTINUED)
    assert continued.usage.cached_tokens == info.n_tokens


@pytest.mark.parametrize(
    "state_format", ["", "acme", "acme v2.", "fake-", "x" * 300, "acme-12345678901234567890", "é-7"]
)
def test_an_engines_state_format_can_be_any_text(
    fake_llama: MakeFake, tmp_path: Path, state_format: str
) -> None:
    def named(name: str) -> FakeLlama:
        llama = fake_llama(babble)
        engine = engine_of(llama)
        engine.info = dataclasses.replace(engine.info, state_format=name)
        return llama

    llama = named(state_format)
    llama.generate("My name is Ada.")
    llama.session_save(tmp_path / "chat.session")
    assert named(state_format).session_load(tmp_path / "chat.session").n_tokens
    with pytest.raises(SessionMismatch, match="state_format"):
        named("another").session_load(tmp_path / "chat.session")


def test_its_session_files_are_checked_as_all_are(fake_llama: MakeFake, tmp_path: Path) -> None:
    path = tmp_path / "chat.session"
    llama = fake_llama()
    llama.generate("hi")
    llama.session_save(path)
    with pytest.raises(SessionMismatch, match=r"model\."):
        fake_llama(model="demo").session_load(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SessionCorrupt):
        llama.session_load(path)
    with pytest.raises(UnsupportedCapability, match="session_persistence"):
        fake_llama(lacks="session_persistence").session_load(path)


@pytest.mark.parametrize("memory", MemoryKind)
def test_the_ledger_rule_holds_on_every_kind_of_memory(
    fake_llama: MakeFake, memory: MemoryKind
) -> None:
    llama = fake_llama(babble, memory=memory)
    for stop in ("", "e", "a"):
        text = llama.generate_continue("Tell me more.", stop=stop or ()).text
        assert stop == "" or stop not in text
    assert_ledger_rule(llama)


# failures


def test_an_error_in_the_middle_takes_the_turn_back(fake_llama: MakeFake) -> None:
    llama = fake_llama(["Fine.", FakeAnswer("Not so good", fails_after=5), "Fine again."])
    llama.generate("one")
    held = llama.session().tokens
    said: list[str] = []
    with pytest.raises(EngineError, match="as it was told to"):
        said.extend(llama.generate_continue_stream("two"))
    assert "".join(said) == "Not s"
    assert llama.session().tokens == held
    assert llama.generate_continue("two").text == "Fine again."


def test_any_error_can_be_simulated(fake_llama: MakeFake) -> None:
    answer = FakeAnswer(fails_after=0, error=EngineError("the model must be loaded again"))
    with pytest.raises(EngineError, match="loaded again"):
        fake_llama(answer).generate("hi")


@pytest.mark.parametrize(
    "wrong",
    [
        {"answers": 5},
        {"answers": None},
        {"memory": "dense"},
        {"load_error": ValueError("x")},
        {"prefill_token_seconds": "x"},
        {"prefill_token_seconds": -1},
    ],
    ids=str,
)
def test_wrong_settings_are_named(fake_llama: MakeFake, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        fake_llama(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"text": 5}, {"fails_after": -1}, {"error": "x"}, {"token_seconds": float("nan")}],
    ids=str,
)
def test_a_wrong_answer_is_named(fake_llama: MakeFake, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        FakeAnswer(**wrong)
    if "text" in wrong:  # a function's answer
        with pytest.raises(InvalidInput, match="text"):
            fake_llama(lambda _: wrong["text"]).generate("x")


@pytest.mark.parametrize(
    "error",
    [OutOfMemory("big.gguf", "too big"), BackendUnavailable("fake", "not here", "get it")],
)
def test_loading_can_fail(fake_llama: MakeFake, error: OutOfMemory | BackendUnavailable) -> None:
    with pytest.raises(type(error)) as caught:
        fake_llama(load_error=error)
    assert caught.value is error
    assert FakeBackend(load_error=error).probe().ok == isinstance(error, OutOfMemory)


def test_cancel_ends_a_slow_answer(fake_llama: MakeFake) -> None:
    llama = fake_llama(FakeAnswer("a very long answer", token_seconds=30))
    stream = llama.generate_stream("hi")
    assert next(stream) == "a"
    threading.Timer(0.05, llama.cancel).start()
    start = time.perf_counter()
    assert (stream.result.finish_reason, stream.result.text) == ("cancelled", "a")
    assert time.perf_counter() - start < 10


def test_cancel_ends_a_slow_prefill(fake_llama: MakeFake) -> None:
    llama = fake_llama(prefill_token_seconds=30)
    threading.Timer(0.05, llama.cancel).start()
    answer = llama.generate("hi")
    assert (answer.finish_reason, answer.text) == ("cancelled", "")
    assert not llama.session().active


def test_two_threads_wait_for_each_other(fake_llama: MakeFake) -> None:
    llama = fake_llama(FakeAnswer("slowly", token_seconds=0.005))
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(llama.generate("hi").text)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["slowly", "slowly"]


def test_the_engine_refuses_a_caller_that_breaks_the_contract(fake_llama: MakeFake) -> None:
    engine = engine_of(fake_llama(n_ctx=16))
    with pytest.raises(EngineError, match="calls set_sampler"):
        engine.sample()
    engine.set_sampler(SamplingParams(), 0, [])
    with pytest.raises(EngineError, match="no logits"):
        engine.sample()
    with pytest.raises(ContextOverflow, match="17 tokens do not fit the context of 16"):
        engine.decode([65] * 17)
    with pytest.raises(InvalidInput, match="no such token"):
        engine.decode([100_000])
    assert engine.length == 0


def test_it_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from llama_bridge.testing import FakeLlama\n"
        "with FakeLlama('fine') as llama: print(llama.generate('hi'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no Ctrl-C")
def test_an_interrupt_of_a_cancel_leaves_nobody_waiting() -> None:
    with FakeLlama("answer") as llama:
        at, goes_on = 0, True
        while goes_on:
            at += 1
            goes_on = _interrupted(llama.cancel, at)
            thread = threading.Thread(target=llama.cancel, daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive(), f"at step {at}"
        assert at > 10
        assert llama.generate("x").text == "answer"


def _interrupted(call: Callable[[], None], at: int) -> bool:
    """Whether the call has so many steps; then it was interrupted at that one."""
    steps = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += 1
        if steps == at:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_one_that_nobody_closes_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    llama = FakeLlama(["Hello."])
    assert list(tmp_path.iterdir())
    del llama
    gc.collect()
    assert not list(tmp_path.iterdir())
