"""Texts of any length, on any thread: tokens, or a refusal, and the same tokens as ever."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge import InvalidInput, ModelParams
from llama_bridge.engine import Engine
from llama_bridge.models.long_runs import MAX_RUN, longest_run
from llama_bridge.models.source import open_model
from tests.gguf_editing import edited_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native import deep_stack
from llama_bridge_native.engine import NativeEngine
from llama_bridge_native.opening import open_engine

PRES = (
    "tekken", "default", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "viking", "poro-chat",
    "superbpe", "bailingmoe", "seed-coder", "youtu", "minimax-m2", "exaone-moe", "afmoe", "chameleon", "tiny_aya",
    "llama-bpe", "qwen2", "gpt-2", "command-r", "kimi-k2", "starcoder", "qwen35", "chatglm-bpe", "jais-2",
)  # fmt: skip


@pytest.fixture(scope="module", params=PRES)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The demo model with another pre-tokenizer."""
    path = tmp_path_factory.mktemp("pre") / "m.gguf"
    edited_model(path, {"tokenizer.ggml.pre": request.param})
    engine = open_engine(open_model(path), ModelParams(n_ctx=256))
    yield engine
    engine.close()


def in_thread(stack: int, engine: Engine, text: str, *, special: bool = True) -> list[int]:
    """Its tokens, in a thread with a stack of so many bytes."""
    found: list[list[int]] = []
    refused: list[InvalidInput] = []

    def work() -> None:
        try:
            found.append(engine.tokenize(text, add_special=special, parse_special=special))
        except InvalidInput as error:
            refused.append(error)

    before = threading.stack_size(stack)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if refused:
        raise refused[0]
    return found[0]


UNITS = (
    "a",
    "A",
    "aB",
    "é",
    "汉",
    "1",
    " ",
    "\n",
    "!",
    "=",
    ".=",
    "'s",
    " a",
    "\u3000 ",
    "ก",
    "🙂",
    "a1",
    "-",
    "{",
    "\t ",
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_small_stack_gives_the_same_tokens(engine: Engine, unit: str) -> None:
    text = "Start " + unit * (1000 // len(unit)) + " end."
    expected = engine.tokenize(text, add_special=True, parse_special=True)
    assert in_thread(128 << 10, engine, text) == expected
    assert b"".join(map(engine.token_bytes, expected)).decode().strip() == text


def test_a_run_as_long_as_may_be_survives_on_a_small_stack(engine: Engine) -> None:
    for unit in ("a", "1", "é"):
        try:
            assert in_thread(128 << 10, engine, unit * MAX_RUN)
        except InvalidInput:  # of those whose time grows with the square
            assert in_thread(128 << 10, engine, unit * 1000)


def test_a_run_beyond_that_is_refused_or_needs_no_stack(engine: Engine) -> None:
    text = "a" * 1_000_000
    if _recurses(engine):
        with pytest.raises(InvalidInput, match="without a break"):
            in_thread(128 << 10, engine, text)
    else:
        assert len(in_thread(128 << 10, engine, text)) > 1000


def _recurses(engine: Engine) -> bool:
    assert isinstance(engine, NativeEngine)
    return longest_run("a" * 100, engine._header) > 0


def test_nothing_of_the_whole_process_is_changed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "stack_size", lambda *_: pytest.fail("process-wide"))
    assert engine.tokenize("a" * 10_000, add_special=True, parse_special=True)


def test_what_the_work_raises_comes_out_of_the_thread() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        deep_stack.with_deep_stack(fail, 100)
    assert deep_stack.with_deep_stack(lambda: threading.current_thread().name, 100)
    assert not deep_stack._started


def test_many_threads_at_once() -> None:
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda i=i: found.append(deep_stack.with_deep_stack(lambda: i, 1000))
        )
        for i in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(50))


@pytest.mark.slow
def test_seven_megabytes_of_letters_end_no_process(tmp_path: Path) -> None:
    edited_model(tmp_path / "m.gguf", {"tokenizer.ggml.pre": "tekken"})
    code = """
import sys
from llama_bridge import InvalidInput, LlamaBridge
llama = LlamaBridge(sys.argv[1], backend="native", n_ctx=256)
for text in ("a" * 7_000_000, "hello world " * 600_000):
    try: print(len(llama.tokenize(text)) > 1000)
    except InvalidInput as error: print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "m.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "too many for this model's tokenizer" in done.stdout, done.stderr
    assert done.stdout.endswith("True\n")


@pytest.mark.parametrize("seed", range(3))
def test_any_text_has_the_tokens_that_llama_cpp_gives_on_a_stack_without_end(
    engine: Engine, seed: int
) -> None:
    draw = random.Random(seed)
    assert isinstance(engine, NativeEngine)
    for _ in range(20):
        text = "".join(draw.choice(UNITS) * draw.choice((1, 2, 5, 60, 400)) for _ in range(8))
        work = functools.partial(engine._tokenize, text.encode(), True, True)
        plain = deep_stack.with_deep_stack(work, 1 << 15)
        assert engine.tokenize(text, add_special=True, parse_special=True) == plain
