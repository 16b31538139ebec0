"""The 19 real vocabularies of llama.cpp's own tests: long texts on a small stack, and the bound of how many tokens."""

from __future__ import annotations

import ctypes
import functools
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import InvalidInput
from llama_bridge.models.least_tokens import LeastTokens
from llama_bridge.models.long_runs import MAX_RUN, longest_run
from llama_bridge.models.source import open_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native.deep_stack import with_deep_stack
from llama_bridge_native.engine import NativeEngine
from llama_bridge_native.library import lib
from tools.random_model import vocabularies

from .test_long_texts import in_thread

pytestmark = pytest.mark.slow

NAMES = (
    "aquila", "baichuan", "bert-bge", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2",
    "gpt-neox", "llama-bpe", "llama-spm", "mpt", "nomic-bert-moe", "phi-3", "qwen2", "qwen35", "refact", "starcoder",
)  # fmt: skip
DRAW = random.Random(7)
RUNS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "".join(DRAW.choices("abcdefghijklmnopqrstuvwxyzABCDEF", k=n)),
    "one letter": lambda n: "a" * n,
    "digits": lambda n: "".join(DRAW.choices("0123456789", k=n)),
    "spaces": lambda n: " " * n,
    "lines": lambda n: "\n" * n,
    "cjk": lambda n: "".join(DRAW.choices("的一是不了人我在有他这中大来上国", k=n)),
    "emoji": lambda n: "".join(DRAW.choices("😀🙂👍🏽🎉🚀", k=n)),
    "signs": lambda n: "".join(DRAW.choices("=-.,;:!?#*/", k=n)),
    "controls": lambda n: "".join(DRAW.choices("\1\2\3\4\5\x0b\x11\x1c\x7f", k=n)),
    "base64": lambda n: "".join(DRAW.choices("ABCDEFabcdef0123456789+/", k=n)),
}
LONG = 200_000
"""Bytes."""


class VocabularyAlone(NativeEngine):
    """A native engine without weights, of which only the vocabulary can be used."""

    def __init__(self, path: Path) -> None:
        options = lib.llama_model_default_params()
        options.vocab_only = True
        file = open_model(path)
        self._model = lib.llama_model_load_from_file(os.fsencode(path), options)
        assert self._model
        self.context = self._model  # any pointer: only asked whether it is there
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.process = os.getpid()
        self._header = file.header
        self._least = LeastTokens(file)
        self._words = threading.RLock()

    def close(self) -> None:
        model, self._model, self.context, self._vocab = self._model, None, None, None
        lib.llama_model_free(model)


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[VocabularyAlone]:
    engine = VocabularyAlone(vocabularies.vocabulary_files()[request.param])
    yield engine
    engine.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["engine"])


def uncut(engine: VocabularyAlone, text: str) -> list[int]:
    """What llama.cpp gives on a stack that is large enough for anything."""
    work = functools.partial(engine._tokenize, text.encode(), False, False)
    return with_deep_stack(work, len(text))


def test_they_are_all_there() -> None:
    assert tuple(vocabularies.vocabulary_files()) == NAMES


def test_the_known_texts_have_the_known_tokens(engine: VocabularyAlone, name: str) -> None:
    for text, tokens in vocabularies.test_vectors(vocabularies.vocabulary_files()[name]):
        found = engine.tokenize(text, add_special=False, parse_special=False)
        assert found == tokens
        assert engine.least_tokens(text) <= len(found)


def test_long_texts_on_a_small_stack_have_the_tokens_of_a_large_one(
    engine: VocabularyAlone, name: str
) -> None:
    """Each kind with each vocabulary; with each of them another kind is long."""
    for i, (kind, run) in enumerate(RUNS.items()):
        long = (NAMES.index(name) + i) % len(RUNS) == 0
        n_bytes = LONG if long else 4000
        text = "Start " + run(n_bytes // len(run(1).encode())) + " end."
        if long and _is_refused(engine, text):
            with pytest.raises(InvalidInput, match="without a break"):
                in_thread(128 << 10, engine, text, special=False)
            text = "Start " + run(MAX_RUN // 8) + " end."
        found = in_thread(128 << 10, engine, text, special=False)
        assert found == uncut(engine, text), kind
        assert engine.least_tokens(text) <= len(found), kind


def _is_refused(engine: VocabularyAlone, text: str) -> bool:
    try:
        longest_run(text, engine._header)
    except InvalidInput:
        return True
    return False


def test_no_token_stands_for_more_than_the_bound_says(engine: VocabularyAlone) -> None:
    """The tokens that stand for most, each repeated: the texts for which the bound is closest."""
    n = lib.llama_vocab_n_tokens(engine._vocab)
    texts = sorted((_text(engine._vocab, token) for token in range(0, n, 5)), key=len)[-40:]
    for text in filter(None, texts):
        found = engine.tokenize(text * 40, add_special=False, parse_special=False)
        assert engine.least_tokens(text * 40) <= len(found), text


def _text(vocab: Any, token: int) -> str:
    buffer = ctypes.create_string_buffer(1024)
    n = lib.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
    return buffer.raw[: max(n, 0)].decode("utf-8", "ignore")
