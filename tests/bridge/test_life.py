"""Opening, replacing, cancelling and closing a bridge."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    Capability,
    ClosedError,
    InvalidModel,
    LlamaBridge,
    ModelParams,
    NoModel,
    SamplingParams,
    TextStream,
    registry,
)
from llama_bridge.engine import Engine
from llama_bridge.local.spelling import Spelling
from tests.ledger import GREEDY, assert_ledger_rule, engine_of

BACKENDS = pytest.mark.parametrize("backend", ["native", "wasm"])


@BACKENDS
def test_use_after_close_is_one_clear_error(backend: str) -> None:
    llama = LlamaBridge("demo", backend=backend)
    session, engine = llama.session(), engine_of(llama)
    llama.close()
    llama.close()
    llama.cancel()
    for use in (
        lambda: llama.generate("x"),
        lambda: llama.generate_continue("x"),
        lambda: llama.generate_stream("x"),
        lambda: llama.session_reset(),
        lambda: llama.session_save("x"),
        lambda: llama.tokenize("x"),
        lambda: llama.capabilities,
        lambda: llama.model,
        lambda: llama.load_model("demo"),
        lambda: llama.info,
        lambda: llama.session(),
        lambda: session.tokens,
        lambda: session.generate_continue("x"),
        lambda: session.save("x"),
        lambda: engine.length,
        lambda: engine.decode([1]),
        lambda: engine.sample(),
    ):
        with pytest.raises(ClosedError):
            use()


def half_read(backend: str) -> tuple[LlamaBridge, TextStream, Engine]:
    llama = LlamaBridge("demo", backend=backend)
    stream = llama.generate_stream("Hello!", sampling=GREEDY)
    assert next(stream)
    return llama, stream, engine_of(llama)


def assert_freed(engine: Engine) -> None:
    gc.collect()
    with pytest.raises(ClosedError):
        engine.tokenize("x", add_special=False, parse_special=False)


@BACKENDS
def test_a_bridge_that_is_dropped_frees_its_model(backend: str) -> None:
    llama, stream, engine = half_read(backend)
    del llama
    gc.collect()
    assert next(stream), "a stream is use enough"
    del stream
    assert_freed(engine)


@BACKENDS
def test_garbage_that_holds_itself_frees_its_model(backend: str) -> None:
    """Bridge and half read stream at once, in whatever order Python ends them; an error there fails the test."""
    llama, stream, engine = half_read(backend)
    cycle: list[object] = [llama, stream]
    cycle.append(cycle)
    del llama, stream, cycle
    assert_freed(engine)


def test_a_bridge_without_a_model_says_what_to_do() -> None:
    with LlamaBridge() as llama:
        with pytest.raises(NoModel, match="load_model"):
            llama.generate("x")
        llama.load_model("demo")
        assert llama.generate("Hello!", sampling=GREEDY).text


@BACKENDS
def test_another_model_replaces_the_first_and_a_bad_one_does_not(
    backend: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with LlamaBridge("demo", backend=backend) as llama:
        llama.generate("Hello! My name is Bo.", sampling=GREEDY)
        before, engine = llama.session().tokens, engine_of(llama)
        with pytest.raises(InvalidModel):
            llama.load_model(tmp_path / "bad.gguf")
        assert llama.session().tokens == before
        llama.load_model("demo", ModelParams(n_ctx=512))
        assert (llama.info.n_ctx, llama.session().tokens) == (512, ())
        with pytest.raises(ClosedError):
            engine.decode([1])


def test_close_ends_a_stream_that_another_thread_left_open() -> None:
    llama = LlamaBridge("demo")
    kept: list[TextStream] = []

    def leave_open() -> None:
        kept.append(llama.generate_stream("Who are you?", sampling=GREEDY))
        next(kept[0])

    thread = threading.Thread(target=leave_open)
    thread.start()
    thread.join()
    closing = threading.Thread(target=llama.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert kept[0].result.finish_reason == "cancelled"


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model large enough that a prefill takes seconds."""
    from tools.random_model import write_model  # numpy: not in a page

    path = tmp_path_factory.mktemp("slow") / "slow.gguf"
    write_model(
        path,
        vocab="llama-bpe",
        n_ctx_train=8192,
        n_layer=6,
        n_embd=512,
        n_head=8,
        n_head_kv=8,
        n_ff=1536,
    )
    return path


@BACKENDS
def test_cancel_ends_a_prefill_and_the_session_is_as_before(backend: str, slow_model: Path) -> None:
    params = ModelParams(n_ctx=8192, n_batch=512)
    with LlamaBridge(slow_model, backend=backend, params=params) as llama:
        llama.generate("Hello", chat=False, sampling=SamplingParams(max_tokens=4))
        before = llama.session().tokens
        continues = Capability.KV_CONTINUATION in llama.capabilities
        call = llama.generate_continue if continues else llama.generate
        clock = time.monotonic()
        timer = threading.Timer(0.3, llama.cancel)
        timer.start()
        answer = call("some words to read " * 1000, chat=False, sampling=GREEDY)
        took = time.monotonic() - clock
        assert answer.finish_reason == "cancelled"
        assert answer.text == ""
        assert took < 5
        assert llama.session().tokens == (before if continues else ())
        assert engine_of(llama).length == len(llama.session().tokens)


@BACKENDS
def test_cancel_from_another_thread_ends_a_decode(backend: str) -> None:
    endless = SamplingParams(temperature=2, top_k=0, top_p=1, min_p=0, max_tokens=None, seed=1)
    with LlamaBridge("demo", backend=backend) as llama:
        for _ in range(200):
            stream = llama.generate_stream("Tell me", chat=False, sampling=endless)
            if len([next(stream, "") for _ in range(3)]) == 3:
                break
        thread = threading.Thread(target=llama.cancel)
        thread.start()
        rest = list(stream)
        thread.join()
        assert stream.result.finish_reason in {"cancelled", "stop"}
        assert len(rest) < 500
        assert_ledger_rule(llama)


@BACKENDS
@pytest.mark.parametrize("n_parallel", [1, 3])
def test_cancel_counts_from_the_first_moment_of_a_call(
    backend: str, n_parallel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlamaBridge("demo", backend=backend, n_parallel=n_parallel) as llama:
        read = Spelling.tokenize

        def cancelled_meanwhile(*args: Any, **how: Any) -> Any:
            llama.cancel()
            return read(*args, **how)

        with monkeypatch.context() as patch:
            patch.setattr(Spelling, "tokenize", cancelled_meanwhile)
            answer = llama.generate("Hello!", sampling=GREEDY)
        assert (answer.finish_reason, answer.text) == ("cancelled", "")
        assert llama.generate("Hello!", sampling=GREEDY).finish_reason == "stop"


@BACKENDS
def test_cancel_ends_calls_that_wait_for_others_too(backend: str) -> None:
    with LlamaBridge("demo", backend=backend) as llama:
        never_ends = dict.fromkeys(engine_of(llama).info.end_of_generation, -math.inf)
        long = SamplingParams(temperature=0, max_tokens=900, logit_bias=never_ends)
        found: list[str] = []

        def ask() -> None:
            found.append(llama.generate("Hello!", sampling=long).finish_reason)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        llama.cancel()
        clock = time.monotonic()
        for thread in threads:
            thread.join(30)
        assert found == ["cancelled"] * 4
        assert time.monotonic() - clock < 1


def test_cancel_when_idle_does_nothing(llama: LlamaBridge) -> None:
    llama.cancel()
    assert llama.generate("Hello!", sampling=GREEDY).finish_reason == "stop"


@BACKENDS
def test_loading_and_generating_write_nothing_to_the_terminal(backend: str) -> None:
    registry.candidates(backend)
    code = (
        "import sys\nfrom llama_bridge import LlamaBridge\n"
        "with LlamaBridge('demo', backend=sys.argv[1]) as llama: llama.generate('Hello!')\n"
        "try: LlamaBridge(sys.argv[2], backend=sys.argv[1])\n"
        "except Exception as error: assert 'Llama' not in type(error).__name__, error\n"
        "else: raise SystemExit('loaded')\n"
    )
    command = [sys.executable, "-c", code, backend, __file__]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@BACKENDS
def test_many_bridges_one_after_another_leak_no_memory(backend: str) -> None:
    registry.candidates(backend)
    code = (
        "import sys, resource\nfrom llama_bridge import LlamaBridge, SamplingParams\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4\n"
        "for i in range(30):\n"
        "    with LlamaBridge('demo', backend=sys.argv[1]) as llama:\n"
        "        llama.generate('Hello!', sampling=SamplingParams(max_tokens=4))\n"
        "    if i == 9: start = rss()\n"
        "print(rss() - start)\n"
    )
    command = [sys.executable, "-c", code, backend]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 20_000, f"{result.stdout.strip()} KiB were kept after 20 models"
