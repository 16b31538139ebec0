"""A bare llama.cpp sequence file, written by llama.cpp itself: taken on trust only, checked as far as it can be."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from ctypes import c_int32
from pathlib import Path

import pytest

from llama_bridge import (
    LlamaBridge,
    Mode,
    ModelParams,
    SamplingParams,
    SessionCorrupt,
    SessionMismatch,
    SessionNotFound,
)
from llama_bridge.errors import SessionError
from tests.forging import bare
from tests.ledger import GREEDY, assert_ledger_rule, engine_of, machine
from tests.local.test_replay import untouched
from tests.making import MakeModel

lib = pytest.importorskip(
    "llama_bridge_native.library", reason="the native backend is not installed"
).lib

PARAMS = ModelParams(n_ctx=256)
SHORT = SamplingParams(temperature=0, max_tokens=6)
REFUSED = "refused its KV state"


def write_bare(llama: LlamaBridge, path: Path, tokens: Sequence[int] | None = None) -> None:
    """llama.cpp's own call, with the tokens of the session or others in the header."""
    listed = llama.session().tokens if tokens is None else tokens
    array = (c_int32 * len(listed))(*listed)
    context = vars(engine_of(llama))["context"]
    assert lib.llama_state_seq_save_file(context, os.fsencode(path), 0, array, len(listed)) > 0


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_every_kind_of_memory_is_taken_and_goes_on(
    make_model: MakeModel, tmp_path: Path, architecture: str
) -> None:
    model, path = make_model(architecture=architecture), tmp_path / "bare"
    with LlamaBridge(model, backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time there was a small house by the lake", sampling=SHORT)
        write_bare(llama, path)
        tokens = llama.session().tokens
        expected = llama.generate_continue(" and in it", sampling=SHORT).text
    with LlamaBridge(model, backend="native", params=PARAMS) as llama:
        with untouched(llama), pytest.raises(SessionCorrupt, match="trust_unverified=True"):
            llama.session_load(path)
        info = llama.session_load(path, trust_unverified=True)
        assert (info.n_tokens, info.cached_tokens, info.owed_tokens) == (
            len(tokens),
            len(tokens),
            0,
        )
        assert (info.messages, info.created, info.replayed) == ((), "", None)
        assert info.n_bytes == path.stat().st_size
        assert llama.session().tokens == tokens
        assert (llama.session().messages, llama.session().n_turns) == ([], 0)
        answer = llama.generate_continue(" and in it", sampling=SHORT)
        assert (answer.text, answer.mode) == (expected, Mode.CONTINUED)
        assert answer.usage.cached_tokens == len(tokens)
        assert_ledger_rule(llama, n=3)


def test_a_chat_goes_on_behind_it_as_behind_raw_text(tmp_path: Path) -> None:
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
        tokens = llama.session().tokens
        write_bare(llama, tmp_path / "bare")
        llama.session_reset()
        llama.session("other").load(tmp_path / "bare", trust_unverified=True)
        answer = llama.session("other").generate_continue("What is my name?", sampling=GREEDY)
        assert "Zorvane" in answer.text
        assert [m["content"] for m in llama.session("other").messages] == [
            "What is my name?",
            answer.text,
        ]
        assert llama.session("other").tokens[: len(tokens)] == tokens
        assert not llama.session().active


def test_tokens_that_the_cache_does_not_hold_are_owed_and_counted(
    make_model: MakeModel, tmp_path: Path
) -> None:
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        tokens = (*llama.session().tokens, 300, 301)
        write_bare(llama, tmp_path / "bare", tokens)
        llama.session_reset()
        info = llama.session_load(tmp_path / "bare", trust_unverified=True)
        assert (info.n_tokens, info.cached_tokens, info.owed_tokens) == (
            len(tokens),
            len(tokens) - 2,
            2,
        )
        assert llama.session().tokens == tokens
        usage = llama.generate_continue(" there", sampling=SHORT).usage
        assert usage.cached_tokens == len(tokens) - 2
        assert_ledger_rule(llama, n=3)


def test_a_file_that_saved_nothing_is_no_silent_restore(
    make_model: MakeModel, tmp_path: Path
) -> None:
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        write_bare(llama, tmp_path / "bare", [1, 300, 301])
        with untouched(llama), pytest.raises(SessionCorrupt, match=REFUSED):
            llama.session_load(tmp_path / "bare", trust_unverified=True)
        llama.session_reset()
        info = llama.session_load(tmp_path / "bare", trust_unverified=True, replay=True)
        assert (info.cached_tokens, info.evaluated_tokens) == (0, 3)
        assert info.replayed is not None
        assert info.replayed.startswith("llama.cpp refused its KV state")
        assert llama.session().tokens == (1, 300, 301)
        assert_ledger_rule(llama, n=3)


@pytest.mark.parametrize(
    ("at", "value", "kind", "words"),
    [
        (0, struct.pack(">I", 0x67677371), SessionMismatch, "context.byte_order differs"),
        (4, struct.pack("<I", 2), SessionMismatch, "context.state_format differs.*ggsq-2"),
        (8, struct.pack("<I", 0), SessionCorrupt, "no tokens"),
        (8, struct.pack("<I", 1 << 31), SessionCorrupt, "list of 2147483648 tokens"),
        (8, struct.pack("<I", 300), SessionMismatch, "context.n_ctx differs: saved with 300"),
        (16, struct.pack("<i", -1), SessionCorrupt, "tokens that the model lacks"),
        (16, struct.pack("<i", 1 << 20), SessionCorrupt, "tokens that the model lacks"),
        (-5, b"", SessionCorrupt, REFUSED),
        (9, b"", SessionCorrupt, "9 bytes"),
    ],
)
def test_what_can_be_checked_is_checked(
    make_model: MakeModel,
    tmp_path: Path,
    at: int,
    value: bytes,
    kind: type[SessionError],
    words: str,
) -> None:
    path = tmp_path / "bare"
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        write_bare(llama, path)
        data = path.read_bytes()
        path.write_bytes(data[:at] + value + (data[at + len(value) :] if value else b""))
        if sys.byteorder == "big":
            pytest.skip("the numbers here are little-endian")
        with untouched(llama), pytest.raises(kind, match=words):
            llama.session_load(path, trust_unverified=True)


def test_a_model_of_another_shape_refuses_it(make_model: MakeModel, tmp_path: Path) -> None:
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        write_bare(llama, tmp_path / "bare")
    with (
        LlamaBridge(make_model(n_layer=3), backend="native", params=PARAMS) as llama,
        untouched(llama),
        pytest.raises(SessionCorrupt, match=REFUSED),
    ):
        llama.session_load(tmp_path / "bare", trust_unverified=True)


def test_trust_changes_nothing_for_session_files(make_model: MakeModel, tmp_path: Path) -> None:
    whole, cut, path = tmp_path / "whole", tmp_path / "cut", tmp_path / "missing"
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        llama.session_save(whole)
        tokens, n_turns = llama.session().tokens, llama.session().n_turns
        data = whole.read_bytes()
        cut.write_bytes(data[:-60])
        with untouched(llama), pytest.raises(SessionCorrupt, match=REFUSED):
            llama.session_load(cut, trust_unverified=True)
        with untouched(llama), pytest.raises(SessionNotFound):
            llama.session_load(path, trust_unverified=True)
        with untouched(llama), pytest.raises(SessionCorrupt, match="this is a directory"):
            llama.session_load(tmp_path, trust_unverified=True)
        assert llama.session_load(whole, trust_unverified=True).created
        assert (llama.session().tokens, llama.session().n_turns) == (tokens, n_turns)
        cut.write_bytes(bare(whole))  # what llama.cpp would have written
        write_bare(llama, path)
        assert path.read_bytes() == cut.read_bytes()
        assert llama.session_load(cut, trust_unverified=True).cached_tokens == len(tokens)
        assert machine(llama).turns == []
    with (
        LlamaBridge(make_model(seed=4), backend="native", params=PARAMS) as llama,
        pytest.raises(SessionMismatch),
    ):
        llama.session_load(whole, trust_unverified=True)
