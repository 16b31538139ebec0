"""What the fuzzer found, and what it cannot find: each once, by name."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from llama_bridge import BridgeError, LlamaBridge, ModelParams, SessionCorrupt
from tests.forging import forge, layers
from tests.ledger import GREEDY, assert_ledger_rule, engine_of
from tools.random_model import write_model

persistent = pytest.mark.requires_capability("session_persistence")


@pytest.fixture
def saved(llama: LlamaBridge, tmp_path: Path) -> Path:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    llama.session_save(tmp_path / "s")
    return tmp_path / "s"


@persistent
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("turns", [[float("inf"), 5, 0]]),
        ("turns", [[0, float("nan"), 0]]),
        ("turns", "012"),
        ("messages", [{"role": "user", "content": "\ud800"}]),
        ("messages", [{"role": "\udfff", "content": ""}]),
        ("messages", 10**400),
        ("owed", [True]),
        ("n_tokens", float("inf")),
    ],
)
def test_what_no_session_says(llama: LlamaBridge, saved: Path, field: str, value: object) -> None:
    before = llama.session().tokens
    forge(saved, manifest={field: value})
    with pytest.raises(SessionCorrupt):
        llama.session_load(saved)
    assert llama.session().tokens == before
    assert engine_of(llama).length == len(before)
    assert_ledger_rule(llama)


@persistent
def test_forged_cells_do_not_reach_other_conversations(llama: LlamaBridge, saved: Path) -> None:
    if llama.info.memory.value != "dense":
        pytest.skip("only what can be rewound is shared")
    victim = llama.session("victim")
    victim.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    branch = victim.fork("branch")

    def other_values(sequence: bytearray) -> None:
        for at in layers(sequence)[1]:
            sequence[at] = b"\x31" * (at.stop - at.start)

    forge(saved, state=other_values)
    llama.session_load(saved)
    fork = llama.session_fork("fork")  # what was loaded goes on, as forged as it is
    assert "Zorblax" in branch.generate_continue("What is my name?", sampling=GREEDY).text
    llama.session_load(saved)
    assert "Zorblax" in victim.generate_continue("What is my name?", sampling=GREEDY).text
    assert fork.tokens == llama.session().tokens


@persistent
@pytest.mark.skipif(sys.platform != "linux", reason="sparse files and their sizes")
def test_a_file_larger_than_memory_is_not_read(llama: LlamaBridge, saved: Path) -> None:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with saved.open("r+b") as file:
        file.seek(size - 48)
        file.write(struct.pack("<8sIIQQ", b"LLBRIDGE", 1, 0, size - 50, 2) + bytes(16))
    for bare in (False, True):
        with pytest.raises(SessionCorrupt, match="half of all memory"):
            llama.session_load(saved, trust_unverified=bare)
        os.truncate(saved, size - 48)


@persistent
def test_a_manifest_too_large_to_parse_is_not_parsed(llama: LlamaBridge, saved: Path) -> None:
    forge(saved, manifest={"many": [[]] * (6 << 20)})
    with pytest.raises(SessionCorrupt, match="sizes"):
        llama.session_load(saved)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "lfm2"])
def test_nan_of_one_session_does_not_reach_the_next(architecture: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf", architecture=architecture, seed=3)
    with LlamaBridge(tmp_path / "m.gguf", backend="native", params=ModelParams(n_ctx=512)) as llama:
        llama.generate("A longer text, of which the cache keeps more cells. " * 20, sampling=GREEDY)
        llama.session_save(tmp_path / "forged")
        llama.generate("Short.", sampling=GREEDY)
        llama.session_save(tmp_path / "good")
        prompt = " And a prompt long enough to be evaluated in tiles. " * 8
        expected = llama.generate_continue(prompt, sampling=GREEDY).text

        def not_a_number(sequence: bytearray) -> None:
            for at in range(len(sequence) - 64, len(sequence) - 40_000, -1):
                if sequence[at : at + 8] == struct.pack("<Q", n_bytes_of_a_row):
                    return
                sequence[at + 8 : at + 10] = b"\xff\x7f"

        n_bytes_of_a_row = 64
        forge(tmp_path / "forged", state=not_a_number)
        for _ in range(2):
            try:
                llama.session_load(tmp_path / "forged")
            except BridgeError:
                assert architecture != "llama"  # elsewhere it may have hit the structure
            llama.session_load(tmp_path / "good")
            assert llama.generate_continue(prompt, sampling=GREEDY).text == expected
