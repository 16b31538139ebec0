"""A runtime without tokens under the same bridge: the same flags refuse and fall back, by the same code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import (
    Capability,
    ClosedError,
    Fallback,
    FallbackWarning,
    InvalidInput,
    LlamaBridge,
    Mode,
    NoModel,
    UnsupportedCapability,
    registry,
)
from tests.bridge.text_runtime import FLAGS, TextBackend


@pytest.fixture
def llama() -> Iterator[LlamaBridge]:
    with LlamaBridge("what a server calls it", backend=TextBackend()) as llama:
        yield llama


def test_it_answers_whole_and_in_pieces(llama: LlamaBridge) -> None:
    assert (llama.backend, llama.capabilities) == ("text", FLAGS)
    assert str(llama.generate("hello there")) == "You said: hello there"
    with llama.generate_stream("hello there") as stream:
        assert list(stream) == ["You", " said:", " hello", " there"]
    assert stream.result.finish_reason == "stop"


def test_settings_reach_it(llama: LlamaBridge) -> None:
    assert llama.generate("hello there", max_tokens=3).text == "You said: hello"
    assert llama.generate("hello there", stop=[" there"]).text == "You said: hello"


def test_a_continue_falls_back_aloud_and_once(llama: LlamaBridge) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = llama.generate_continue("hello")  # nothing is lost in a first turn
    assert (first.mode, first.fallback) == (Mode.FRESH, Fallback.NO_SESSION)
    with pytest.warns(FallbackWarning, match="kv_continuation") as caught:
        answer = llama.generate_continue("and now?")
    assert caught[0].filename == __file__
    assert (answer.mode, answer.fallback) == (Mode.FRESH, Fallback.UNSUPPORTED)
    assert answer.text == llama.generate("and now?").text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert llama.generate_continue("again").fallback is Fallback.UNSUPPORTED
        llama.session_reset()
        assert llama.generate_continue("anew").fallback is Fallback.NO_SESSION


def test_what_it_lacks_is_refused_before_work(llama: LlamaBridge, tmp_path: Path) -> None:
    for flag, call in (
        (Capability.TOKENS, lambda: llama.tokenize("x")),
        (Capability.TOKENS, lambda: llama.detokenize([1])),
        (Capability.TOKENS, lambda: llama.info),
        (Capability.SESSION_TOOLS, lambda: llama.session("work")),
        (Capability.SESSION_TOOLS, lambda: llama.session_fork()),
        (Capability.SESSION_TOOLS, lambda: llama.session_rewind()),
        (Capability.SESSION_TOOLS, lambda: llama.regenerate()),
        (Capability.SESSION_PERSISTENCE, lambda: llama.session_save(tmp_path / "a")),
        (Capability.SESSION_PERSISTENCE, lambda: llama.session_load(tmp_path / "a")),
        (Capability.SESSION_PERSISTENCE, lambda: llama.session_verify(tmp_path / "a")),
        (Capability.SESSION_PERSISTENCE, lambda: with_folder(tmp_path)),
    ):
        with pytest.raises(UnsupportedCapability) as caught:
            call()
        assert caught.value.capability is flag
        assert caught.value.backend == "text"
        assert caught.value.available_in == tuple(registry.available_in(flag))
    assert not (tmp_path / "a").exists()


def with_folder(folder: Path) -> LlamaBridge:
    return LlamaBridge("x", backend=TextBackend(), sessions_dir=folder / "kept")


def test_it_has_no_past_and_no_file(llama: LlamaBridge) -> None:
    llama.generate("hello")
    session = llama.session()
    assert (session.tokens, session.messages, session.n_turns, session.active) == ((), [], 0, False)
    session.reset()
    assert llama.sessions() == []
    with pytest.raises(NoModel, match="text"):
        _ = llama.model


def test_bad_input_is_refused_as_everywhere(llama: LlamaBridge) -> None:
    for wrong in ({"prompt": ""}, {"prompt": "x", "stop": [""]}, {"prompt": "x", "top_p": 2}):
        with pytest.raises(InvalidInput):
            llama.generate(**wrong)


def test_cancel_and_close(llama: LlamaBridge) -> None:
    stream = llama.generate_stream("one two three")
    assert next(stream) == "You"
    llama.cancel()
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text == "You"
    llama.close()
    with pytest.raises(ClosedError):
        llama.generate("x")
