"""Loading natively: nothing is left behind by a load that failed, each error has its own words and its right type."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelLoadError, ModelParams, OutOfMemory
from llama_bridge.models.source import open_model
from tests.gguf_editing import edited_model
from tools.random_model import cached_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native import library, loading
from llama_bridge_native.opening import open_engine

MAKES = {
    "llama_model_load_from_file": "model",
    "llama_init_from_model": "context",
    "llama_sampler_chain_init": "sampler",
}
FREES = {"llama_model_free": "model", "llama_free": "context", "llama_sampler_free": "sampler"}


class _Fault(BaseException):
    """As unexpected as an interrupt."""


class Faults:
    """Counts what is alive in llama.cpp, and raises instead of the nth call into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: Counter[str] = Counter()
        self.left = 0
        lib = library.lib
        for name in dir(lib):
            function = getattr(lib, name)
            if name.startswith("llama_") and callable(function) and not isinstance(function, type):
                monkeypatch.setattr(lib, name, self._watched(name, function))

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if name not in FREES and name != "llama_vocab_is_eog":  # once for each token
                self.left -= 1
                if self.left == 0:
                    raise _Fault(name)
            result = function(*args)
            if name in MAKES and result:
                self.alive[MAKES[name]] += 1
            if name in FREES:
                self.alive[FREES[name]] -= 1
            return result

        return call


def test_whatever_fails_in_a_load_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model, params = open_model("demo"), ModelParams(n_ctx=256)
    faults = Faults(monkeypatch)
    for n in range(1, 100):
        faults.left = n
        try:
            engine = open_engine(model, params)
        except _Fault:
            assert not +faults.alive, f"after call {n}"
            continue
        assert n > 15, "all the calls of a load were tried"
        assert faults.alive == {"model": 1, "context": 1}
        engine.close()
        assert not +faults.alive
        return
    pytest.fail("a load makes more calls than that")


def test_a_thread_hears_only_what_llama_cpp_says_to_it() -> None:
    def log_elsewhere() -> None:
        with library.LoggedErrors() as other:
            library._log_line(4, b"not yours\n", None)
        assert str(other) == "not yours"

    with library.LoggedErrors() as errors:
        thread = threading.Thread(target=log_elsewhere)
        thread.start()
        thread.join()
        library._log_line(4, b"yours, ", None)
        library._log_line(5, b"in two pieces\n", None)
        library._log_line(2, b"news\n", None)
    assert str(errors) == "yours,; in two pieces"
    library._log_line(4, b"nobody listens\n", None)


def test_loads_side_by_side_keep_their_words_apart(tmp_path: Path) -> None:
    names = [f"nonsense{i}" for i in range(4)]
    for name in names:
        edited_model(tmp_path / name, {"general.architecture": name})
    wrong: list[str] = []

    def fail(name: str) -> None:
        for _ in range(10):
            with pytest.raises(ModelLoadError) as caught:
                open_engine(open_model(tmp_path / name), ModelParams(n_ctx=256))
            if name not in str(caught.value) or any(
                n in caught.value.reason for n in names if n != name
            ):
                wrong.append(str(caught.value))

    threads = [threading.Thread(target=fail, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("word", ["alloc", "failed to allocate", "out of memory"])
def test_words_do_not_decide_what_an_error_is(tmp_path: Path, word: str) -> None:
    edited_model(tmp_path / "m.gguf", {"general.architecture": word})
    with pytest.raises(ModelLoadError, match=word) as caught:
        LlamaBridge(tmp_path / "m.gguf", backend="native")
    assert type(caught.value) is ModelLoadError


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_a_cache_that_the_system_has_no_room_for_is_out_of_memory() -> None:
    code = """
import resource
from llama_bridge import LlamaBridge, OutOfMemory
with LlamaBridge("demo", backend="native"): pass
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for n_ctx in (1 << 21, 1 << 23):
    try: LlamaBridge("demo", backend="native", n_ctx=n_ctx)
    except OutOfMemory as error: print(error.reason)
with LlamaBridge("demo", backend="native") as llama: print(llama.backend)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("smaller n_ctx" in line for line in lines[:2])
    assert OutOfMemory.__name__ not in done.stderr


def test_kernels_for_amx_get_no_weights(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = cached_model(n_layer=2, n_embd=256, n_ff=512, quantization="q4_0")

    def buffers() -> set[str]:
        caplog.clear()
        with caplog.at_level("DEBUG", "llama_bridge.native"), LlamaBridge(model, backend="native"):
            return set(re.findall(r"(\S+) model buffer size", caplog.text))

    usual = buffers()
    monkeypatch.setattr(loading, "has_amx", lambda: True)
    left = buffers()
    assert left
    assert not any("AMX" in name or "REPACK" in name for name in left)
    if left == usual:
        pytest.skip("this build has no other kernels to leave out")
