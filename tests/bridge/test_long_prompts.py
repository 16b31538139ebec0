"""Prompts that are far too long are refused before they are tokenised, and none that fits is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import ContextOverflow, LlamaBridge, SamplingParams
from llama_bridge.models.source import open_model
from tests.gguf_editing import Gguf
from tests.ledger import engine_of

SHORT = SamplingParams(temperature=0, max_tokens=2)
N_CTX = 16_384
OVER = 140_000
"""Characters: from there on the bound is looked at."""


@pytest.fixture(params=["native", "wasm"])
def llama(request: pytest.FixtureRequest) -> Iterator[LlamaBridge]:
    with LlamaBridge("demo", backend=request.param, n_ctx=N_CTX, sampling=SHORT) as llama:
        yield llama


def longest_word(llama: LlamaBridge) -> str:
    """The token that stands for most of a text."""
    pieces = map(engine_of(llama).token_bytes, range(llama.info.n_vocab))
    return max((piece.strip() for piece in pieces), key=len).decode()


@pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning")
@pytest.mark.parametrize("chat", [True, False])
def test_eight_megabytes_are_refused_at_once_and_lose_nothing(
    llama: LlamaBridge, chat: bool
) -> None:
    llama.generate("Hello! My name is Zorvane.", chat=chat)
    before = llama.session().messages
    text = "Once upon a time, " * 450_000
    for call in (llama.generate, llama.generate_continue):
        start = time.process_time()
        with pytest.raises(ContextOverflow, match=r"^at least \d+ tokens .* more than") as caught:
            call(text, chat=chat)
        assert time.process_time() - start < 3, "tokenising takes seven"
        assert caught.value.at_least
        assert caught.value.needed > N_CTX
    assert llama.session().messages == before
    assert llama.generate_continue("Thanks!", chat=chat).usage.completion_tokens > 0


@pytest.mark.slow
def test_texts_that_are_too_large_for_the_template_do_not_fit_the_context() -> None:
    with LlamaBridge("demo", backend="native") as llama:
        with pytest.raises(ContextOverflow) as caught:
            llama.generate("word " * 3_000_000)
        assert caught.value.at_least
        parts = [{"type": "text", "text": "word " * 4_000_000}] * 2
        with pytest.raises(ContextOverflow) as caught:
            llama.chat([{"role": "user", "content": parts}])
        assert caught.value.needed > llama.info.n_ctx


def test_a_prompt_that_fits_is_taken_however_long_its_tokens_are(llama: LlamaBridge) -> None:
    word = longest_word(llama)
    for n in (
        OVER // len(word),
        N_CTX - 2,
    ):  # with BOS and one generated token that is all there is room for
        assert len(llama.tokenize(word * n)) < N_CTX
        with llama.generate_stream(word * n, chat=False):
            pass
    for n, at_least in ((N_CTX + 1, False), (N_CTX * 3, True)):
        with pytest.raises(ContextOverflow) as caught:
            llama.generate_stream(word * n, chat=False)
        assert caught.value.at_least is at_least
        assert N_CTX < caught.value.needed <= n + 3


def test_white_space_is_counted_where_the_model_keeps_it(llama: LlamaBridge) -> None:
    text = " \n\t" * 10_000
    least = engine_of(llama).least_tokens(text)
    assert 1000 < least <= len(llama.tokenize(text))


@pytest.mark.parametrize("backend", ["native", "wasm"])
@pytest.mark.parametrize("lost", ["byte", "merge"])
def test_text_that_vanishes_is_not_counted(lost: str, backend: str, tmp_path: Path) -> None:
    """A vocabulary without a token for a byte, as Falcon's, or for what its merges make."""
    model = Gguf(open_model("demo").path)
    words = model.words()
    if lost == "byte":
        words[words.index(b"z")], text = b"\xe2\x98\x83\xe2\x98\x83", "z"
    else:
        text = "é"  # two bytes, which are merged
        model.metadata["tokenizer.ggml.merges"][1].items.insert(0, "Ã ©".encode())
        if "Ã©".encode() in words:
            words[words.index("Ã©".encode())] = b"\xe2\x98\x83\xe2\x98\x83"
    with LlamaBridge(model.write(tmp_path / "m.gguf"), backend=backend, n_ctx=256) as llama:
        assert llama.tokenize(text * OVER) == [llama.info.bos]
        assert engine_of(llama).least_tokens(text * OVER) == 0
        with llama.generate_stream("a" + text * OVER, chat=False) as stream:
            assert next(iter(stream), "")


def test_an_engine_that_knows_nothing_is_asked_for_all_tokens() -> None:
    from llama_bridge.testing import FakeLlama

    with FakeLlama("fine") as llama:
        assert engine_of(llama).least_tokens("x" * OVER) == 0
        with pytest.raises(ContextOverflow) as caught:
            llama.generate("x " * OVER * 10)
        assert not caught.value.at_least


pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="slow in a page")
