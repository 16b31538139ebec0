"""A guest that somebody has taken over says what it likes: the host does not grow with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge.errors import EngineError
from llama_bridge.grammar import Grammar, Trigger
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams, SamplingParams
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import Info
from llama_bridge_wasm.engine.wasm_engine import WasmEngine
from llama_bridge_wasm.hosts.hosted import Hosted

HUGE = (1 << 31) - 1


def say(monkeypatch: pytest.MonkeyPatch, export: str, *args: int, answer: int = HUGE) -> None:
    """Have every guest answer a call so, where the first arguments are these."""
    call = Hosted.call

    def lie(guest: Hosted, name: str, *given: int) -> int:
        said = name == export and given[: len(args)] == args
        return answer if said else call(guest, name, *given)

    monkeypatch.setattr(Hosted, "call", lie)


def test_a_token_of_gigabytes_is_not_copied(
    engine: WasmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "lb_token_bytes")
    with pytest.raises(EngineError, match=r"token 7 is 2,147,483,647 bytes long"):
        engine.token_bytes(7, special=True)


def test_more_tokens_than_a_text_can_have_are_not_copied(
    engine: WasmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "lb_tokenize")
    with pytest.raises(EngineError, match="2,147,483,647 tokens of 5 bytes"):
        engine.tokenize("hello", add_special=True, parse_special=True)


def test_a_token_that_was_refused_is_not_drawn_for_ever(
    engine: WasmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.decode([1, 2])
    lazy = Grammar('root ::= "x"', True, (Trigger("token", token=5),))
    engine.set_sampler(SamplingParams(), 1, [], lazy)
    say(monkeypatch, "lb_draw", answer=5)
    say(monkeypatch, "lb_accept", answer=0)
    with pytest.raises(EngineError, match="not to draw"):
        engine.sample()


@pytest.mark.parametrize("answer", [-1, 2, HUGE])
def test_a_form_of_the_kernels_that_is_none_is_refused(
    wasm: Path, demo: ModelFile, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    say(monkeypatch, "lb_byte_sums", answer=answer)
    with pytest.raises(EngineError, match=f"sum bytes .* says {answer}$"):
        BACKEND.load(demo, ModelParams(n_ctx=256))


@pytest.mark.parametrize(("export", "args"), [("lb_info", (Info.N_VOCAB,)), ("lb_eog_tokens", ())])
def test_a_vocabulary_of_gigabytes_is_refused(
    wasm: Path,
    demo: ModelFile,
    monkeypatch: pytest.MonkeyPatch,
    export: str,
    args: tuple[int, ...],
) -> None:
    say(monkeypatch, export, *args)
    with pytest.raises(EngineError, match="2,147,483,647"):
        BACKEND.load(demo, ModelParams(n_ctx=256))
