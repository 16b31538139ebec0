"""Session files: what is saved comes back; every wrong file is refused by name and nothing is lost."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import (
    Capability,
    LlamaBridge,
    Mode,
    ModelParams,
    NoSession,
    SessionCorrupt,
    SessionMismatch,
    SessionNotFound,
    SessionWriteError,
    UnsupportedCapability,
    registry,
)
from llama_bridge.models.source import open_model
from llama_bridge.snapshot import Snapshot
from tests.ledger import GREEDY, assert_ledger_rule, engine_of, machine

persistent = pytest.mark.requires_capability("session_persistence")


def talk(llama: LlamaBridge) -> None:
    llama.generate("Hello! My name is Zorblax.", sampling=GREEDY)
    llama.generate_continue("Thanks!", sampling=GREEDY)


def assert_untouched(llama: LlamaBridge, before: tuple[int, ...]) -> None:
    assert llama.session().tokens == before
    assert engine_of(llama).length == len(before)
    answer = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert answer.mode is Mode.CONTINUED
    assert answer.usage.cached_tokens == len(before)
    assert_ledger_rule(llama)


@persistent
def test_a_conversation_survives_a_restart(llama: LlamaBridge, tmp_path: Path) -> None:
    talk(llama)
    saved = llama.session_save(tmp_path / "s")
    expected = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert saved.n_tokens == saved.path.stat().st_size // saved.n_bytes * saved.n_tokens
    code = (
        "import sys; from llama_bridge import LlamaBridge, SamplingParams\n"
        "with LlamaBridge('demo', backend=sys.argv[2]) as llama:\n"
        "    info = llama.session_load(sys.argv[1])\n"
        "    g = llama.generate_continue('What is my name?', sampling=SamplingParams(temperature=0))\n"
        "    print(info.n_tokens, g.usage.cached_tokens, g.text)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s"), llama.backend]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{saved.n_tokens} {saved.n_tokens} {expected.text}"
    assert result.stderr == ""


@pytest.mark.lacks_capability("session_persistence")
def test_without_persistence_both_calls_are_refused_before_any_work(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    before = llama.session().tokens
    for call in (llama.session_save, llama.session_load):
        with pytest.raises(UnsupportedCapability, match="session_persistence") as caught:
            call(tmp_path / "s")
        assert caught.value.backend == llama.backend
        assert caught.value.available_in == tuple(
            registry.available_in(Capability.SESSION_PERSISTENCE)
        )
    assert list(tmp_path.iterdir()) == []
    assert llama.session().tokens == before


@persistent
def test_nothing_to_save_is_an_error_and_leaves_no_file(llama: LlamaBridge, tmp_path: Path) -> None:
    with pytest.raises(NoSession):
        llama.session_save(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@persistent
def test_the_manifest_says_what_the_session_was_made_with(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    talk(llama)
    llama.session_save(tmp_path / "s")
    data = (tmp_path / "s").read_bytes()
    assert data[:4] == struct.pack("<I", 0x67677371)
    n_state, n_manifest = struct.unpack_from("<QQ", data, len(data) - 32)
    manifest = json.loads(data[n_state : n_state + n_manifest])
    assert manifest["model"] == open_model("demo").fingerprint
    assert manifest["n_tokens"] == len(llama.session().tokens)
    assert [m["role"] for m in manifest["messages"]] == ["user", "assistant"] * 2
    assert manifest["context"]["n_ctx"] == llama.info.n_ctx
    # The state is llama.cpp's own file, to the byte: its loader gives back the very ledger.
    n_tokens = struct.unpack_from("<I", data, 8)[0]
    assert struct.unpack_from(f"<{n_tokens}i", data, 12) == llama.session().tokens


@persistent
@pytest.mark.parametrize("where", [0.0, 0.01, 0.3, 0.6, 0.9, 0.97, 0.9995])
def test_a_flipped_bit_anywhere_is_noticed(
    llama: LlamaBridge, tmp_path: Path, where: float
) -> None:
    talk(llama)
    before = llama.session().tokens
    path = tmp_path / "s"
    llama.session_save(path)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 4
    path.write_bytes(data)
    with pytest.raises((SessionCorrupt, SessionMismatch), match=str(path)):
        llama.session_load(path)
    assert_untouched(llama, before)


@persistent
@pytest.mark.parametrize("keep", [0, 1, 11, 47, 200, -4096, -48, -1])
def test_a_truncated_file_is_refused(llama: LlamaBridge, tmp_path: Path, keep: int) -> None:
    talk(llama)
    before = llama.session().tokens
    path = tmp_path / "s"
    llama.session_save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SessionCorrupt, match="not a"):
        llama.session_load(path)
    assert_untouched(llama, before)


@persistent
def test_other_files_are_refused_in_words(llama: LlamaBridge, tmp_path: Path) -> None:
    talk(llama)
    before = llama.session().tokens
    path = tmp_path / "s"
    with pytest.raises(SessionNotFound):
        llama.session_load(path)
    with pytest.raises(SessionCorrupt, match="this is a directory"):
        llama.session_load(tmp_path)
    llama.session_save(tmp_path / "whole")
    path.write_text("no session\n" * 100)
    with pytest.raises(SessionCorrupt, match="this is a text file, not a session"):
        llama.session_load(path)
    data = (tmp_path / "whole").read_bytes()
    (n_state,) = struct.unpack_from("<Q", data, len(data) - 32)
    path.write_bytes(data[:n_state])
    with pytest.raises(SessionCorrupt, match=r"bare llama\.cpp sequence file"):
        llama.session_load(path)
    llama.session_save(path)
    newer = bytearray(path.read_bytes())
    newer[-40:-36] = struct.pack("<I", 99)
    path.write_bytes(newer)
    with pytest.raises(SessionMismatch) as caught:
        llama.session_load(path)
    assert (caught.value.field, caught.value.saved) == ("format", 99)
    assert_untouched(llama, before)


@persistent
def test_another_model_is_refused_by_field(llama: LlamaBridge, tmp_path: Path) -> None:
    talk(llama)
    llama.session_save(tmp_path / "s")
    other = bytearray(open_model("demo").path.read_bytes())
    header = open_model("demo").header
    for tensor in header.tensors[5:20]:
        start = header.data_offset + tensor.offset
        for i in range(start, start + (tensor.n_bytes or 0)):
            other[i] ^= 2 if i % 5 == 0 else 0
    (tmp_path / "finetune.gguf").write_bytes(other)
    with LlamaBridge(tmp_path / "finetune.gguf", backend=llama.backend) as finetune:
        finetune.generate("Hello!", sampling=GREEDY)
        before = finetune.session().tokens
        with pytest.raises(SessionMismatch) as caught:
            finetune.session_load(tmp_path / "s")
        assert caught.value.field == "model.weights"
        assert caught.value.saved != caught.value.current
        assert finetune.session().tokens == before
        assert_ledger_rule(finetune)


@persistent
@pytest.mark.parametrize(
    ("params", "field"),
    [
        (ModelParams(type_k="q8_0"), "context.kv_type_k"),
        (ModelParams(type_v="f32"), "context.kv_type_v"),
        (ModelParams(flash_attn=False), "context.flash_attention"),
        (ModelParams(n_ctx=256), "context.n_ctx"),
    ],
)
def test_another_context_is_refused_by_field(
    llama: LlamaBridge, tmp_path: Path, params: ModelParams, field: str
) -> None:
    llama.generate("Hello! " * 100, sampling=GREEDY)
    assert len(llama.session().tokens) > 256
    llama.session_save(tmp_path / "s")
    with LlamaBridge("demo", backend=llama.backend, params=params) as other:
        with pytest.raises(SessionMismatch) as caught:
            other.session_load(tmp_path / "s")
        assert caught.value.field == field
        assert not other.session().active
        assert other.generate("Hello!", sampling=GREEDY).text


@persistent
@pytest.mark.parametrize("params", [ModelParams(flash_attn=False), ModelParams(type_k="q8_0")])
def test_every_kind_of_cache_is_saved_and_restored(
    llama: LlamaBridge, tmp_path: Path, params: ModelParams
) -> None:
    with LlamaBridge("demo", backend=llama.backend, params=params) as other:
        talk(other)
        tokens = other.session().tokens
        other.session_save(tmp_path / "s")
        other.session_reset()
        other.session_load(tmp_path / "s")
        assert other.session().tokens == tokens
        assert_ledger_rule(other)


@persistent
def test_a_state_that_llama_cpp_refuses_loses_nothing(llama: LlamaBridge, tmp_path: Path) -> None:
    talk(llama)
    path = tmp_path / "s"
    llama.session_save(path)
    expected = llama.generate_continue("What is my name?", sampling=GREEDY).text
    llama.session_load(path)
    before, messages = llama.session().tokens, list(llama.session().messages)
    session = machine(llama)
    state = session.engine.state_get()
    refused = Snapshot((1,) * 5, 5, state=state[: len(state) // 2])
    assert session.restore(refused) is False
    assert llama.session().messages == messages
    # Refused before llama.cpp saw it: not even the cache is touched.
    answer = llama.generate_continue("What is my name?", sampling=GREEDY)
    assert answer.text == expected
    assert answer.usage.cached_tokens == len(before)
    assert llama.session().tokens[: len(before)] == before
    assert_ledger_rule(llama)


@persistent
def test_saving_replaces_whole_and_keeps_what_the_old_file_was(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    talk(llama)
    llama.session_save(path)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    llama.generate_continue("Who are you?", sampling=GREEDY)
    llama.session_save(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert llama.session_load(path).n_tokens == len(llama.session().tokens)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "s"]


@persistent
def test_an_unwritable_place_is_an_error_that_keeps_the_old_file(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    talk(llama)
    path = tmp_path / "s"
    llama.session_save(path)
    old = path.read_bytes()
    tokens = llama.session().tokens
    with pytest.raises(SessionWriteError, match="No such file"):
        llama.session_save(tmp_path / "missing" / "s")
    with pytest.raises(SessionWriteError, match="not a regular file"):
        llama.session_save(tmp_path)
    with pytest.raises(SessionWriteError):
        llama.session_save(Path("/proc/self/session"))
    with pytest.raises(OSError, match="cannot be written"):
        llama.session_save(tmp_path / ("x" * 300))
    assert path.read_bytes() == old
    assert_untouched(llama, tokens)


@persistent
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and file size limits are Linux's")
def test_a_full_disk_is_an_error_that_keeps_the_old_file(
    llama: LlamaBridge, tmp_path: Path
) -> None:
    talk(llama)
    path = tmp_path / "s"
    size = llama.session_save(path).n_bytes
    old = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from llama_bridge import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "llama = LlamaBridge('demo', backend=sys.argv[2])\n"
        "llama.session_load(sys.argv[1])\n"
        "llama.generate_continue('Who are you?', sampling=SamplingParams(temperature=0))\n"
        "limit = int(sys.argv[3])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n"
        "    llama.session_save(sys.argv[1])\n"
        "except SessionWriteError as error:\n"
        "    print('refused', len(llama.session().tokens) == llama.generate_continue('x', max_tokens=1).usage.cached_tokens)\n"
    )
    for limit in (100, size // 2, size - 100):
        command = [sys.executable, "-c", code, str(path), llama.backend, str(limit)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout == "refused True\n", result.stderr
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["s"]
