"""A folder that holds too much: KV caches go, conversations stay, and what is somebody else's is not touched."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, Mode, SamplingParams, SessionCorrupt
from llama_bridge.files.format import read_session_file, state_bytes
from llama_bridge.files.manifest import drop_state
from tests.forging import forge, read_manifest
from tests.ledger import GREEDY, assert_ledger_rule

SHORT = SamplingParams(temperature=0, max_tokens=4)


def _bridge(folder: Path, **more: object) -> LlamaBridge:
    return LlamaBridge("demo", backend="native", sessions_dir=folder, **more)  # type: ignore[arg-type]


def _fill(folder: Path, names: str) -> None:
    """One conversation after the other, the first used least recently."""
    with _bridge(folder) as llama:
        for i, name in enumerate(names):
            llama.session(name).generate(f"Hello! My name is Zorvane{name}.", sampling=GREEDY)
            llama.sessions_flush()
            os.utime(folder / f"{name}.session", (1000 + i, 1000 + i))


def _cached(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.session") if state_bytes(str(path))}


def test_over_its_budget_the_least_recently_used_give_up_their_kv_caches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(tmp_path, "abcd")
    budget = sum(file.stat().st_size for file in tmp_path.glob("*.session"))
    with caplog.at_level(logging.WARNING), _bridge(tmp_path, sessions_disk=budget) as llama:
        llama.session("a").generate_continue(
            "Thanks!", sampling=SHORT
        )  # used: no longer the oldest
        llama.sessions_flush()
        assert _cached(tmp_path) == {"a", "c", "d"}
        assert sum(file.stat().st_size for file in tmp_path.glob("*.session")) <= budget
        assert (tmp_path / "b.session").stat().st_size < 8000
        assert llama.sessions() == ["b", "c", "d", "a"], "giving up the cache was no use of it"
    assert "session 'b' gave up its KV cache" in caplog.text
    with _bridge(tmp_path) as llama:
        n_tokens = len(llama.session("b").tokens)
        answer = llama.session("b").generate_continue("What is my name?", sampling=GREEDY)
        assert answer.mode is Mode.CONTINUED
        assert "Zorvaneb" in answer.text
        assert answer.usage.evaluated_tokens > n_tokens
        assert_ledger_rule(llama)
    assert "b" in _cached(tmp_path), "with its next turn the cache is kept again"


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_no_conversation_is_lost_however_little_the_folder_may_take(
    memory: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = "abcd"
    with _bridge(tmp_path, sessions_disk=0, session_memory=memory) as llama:
        for name in names:
            llama.session(name).generate(f"My name is Zorvane{name}.", sampling=GREEDY)
        llama.sessions_flush()
        for name in names:
            answer = llama.session(name).generate_continue("What is my name?", sampling=GREEDY)
            assert answer.mode is Mode.CONTINUED
            assert f"Zorvane{name}" in answer.text
    assert len(_cached(tmp_path)) <= 1, "the newest alone"
    assert caplog.text.count("more than sessions_disk=0") == 1, "said once, not with each turn"
    with _bridge(tmp_path) as llama:
        assert sorted(llama.sessions()) == list(names)
        for name in names:
            assert len(llama.session(name).messages) == 4


def test_what_somebody_else_put_there_stays_to_the_byte(tmp_path: Path) -> None:
    _fill(tmp_path, "ab")
    others = {
        ".important.tmp": b"mine",
        ".0123456789abcdef.tmp": b"qsgg",
        ".llama-bridge-notes.part": b"qsgg",
        ".llama-bridge-01234567-0123456789abcdef.part": b"not ours by what is in it",
        "notes.session": b"my notes",
        "empty.session": b"",
        "Chat.session": (tmp_path / "a.session").read_bytes(),  # not a name that we give
        "a.txt": b"x",
        "llama.session": (tmp_path / "a.session").read_bytes()[:-60] + bytes(60),
    }
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (1, 1))
    outside = tmp_path.parent / "outside.session"
    outside.write_bytes((tmp_path / "a.session").read_bytes())
    (tmp_path / "link.session").symlink_to(outside)
    with _bridge(tmp_path, sessions_disk=0, sessions_limit=1) as llama:
        llama.session("w").generate("Hello!", sampling=SHORT)
    for name, data in others.items():
        assert (tmp_path / name).read_bytes() == data
        assert (tmp_path / name).stat().st_mtime == 1
    assert state_bytes(str(outside))
    assert (tmp_path / "link.session").is_symlink()
    assert (tmp_path / "w.session").exists()
    assert not (tmp_path / "a.session").exists()


def test_files_of_somebody_else_are_not_among_the_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(tmp_path, "ab")
    whole = (tmp_path / "a.session").read_bytes()
    others = {"notes": b"my notes", "empty": b"", "cut": whole[:-60], "a-2": b"taken"}
    for name, data in others.items():
        (tmp_path / f"{name}.session").write_bytes(data)
    (tmp_path / "link.session").symlink_to(tmp_path / "a.session")
    with _bridge(tmp_path) as llama:
        assert llama.sessions() == ["a", "b"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", _must_not_open)
            assert llama.sessions() == ["a", "b"], "each footer is read once"
        assert caplog.text.count("not a whole session file") == len(others), "and told once"
        (tmp_path / "notes.session").write_bytes(whole)  # as from a backup
        (tmp_path / "a.session").write_bytes(b"gone")
        assert llama.sessions() == ["b", "notes"]
        (tmp_path / "a.session").write_bytes(whole)
        assert llama.session("a").fork().name != "a-2", "that name's file could not be written"
    for name in ("empty", "cut", "a-2"):
        assert (tmp_path / f"{name}.session").read_bytes() == others[name]


def _must_not_open(path: object, *_: object, **__: object) -> int:
    raise AssertionError(f"{path} was opened")


def test_only_an_explicit_limit_drops_conversations_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(tmp_path, "abcd")
    with _bridge(tmp_path, sessions_limit=3) as llama:
        llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        llama.sessions_flush()
        assert llama.sessions() == ["c", "d", "a"]
        llama.session("new").generate("Hello!", sampling=SHORT)
        llama.sessions_flush()
        assert {path.stem for path in tmp_path.glob("*.session")} == {"d", "a", "new"}
    dropped = [r for r in caplog.records if "was deleted" in r.message]
    assert [record.args and record.args[0] for record in dropped] == ["b", "c"]  # type: ignore[index]
    assert {record.levelno for record in dropped} == {logging.WARNING}
    assert "sessions_limit" in caplog.text


def test_what_the_limit_dropped_does_not_come_back_at_the_end(tmp_path: Path) -> None:
    with _bridge(tmp_path, sessions_limit=1) as llama:
        for name in "abc":
            llama.session(name).generate("Hello!", sampling=SHORT)
            llama.sessions_flush()
        answer = llama.session("a").generate_continue("Thanks!", sampling=SHORT)
        assert answer.mode is Mode.CONTINUED, "in memory it lives as long as the bridge"
    assert [path.stem for path in tmp_path.glob("*.session")] == ["a"]


def test_a_damaged_file_is_not_written_again_as_if_it_were_whole(tmp_path: Path) -> None:
    _fill(tmp_path, "ab")
    path = tmp_path / "a.session"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    with _bridge(tmp_path, sessions_disk=0) as llama:
        llama.session("new").generate("Hello!", sampling=SHORT)
    assert path.read_bytes() == data
    assert _cached(tmp_path) == {"a", "new"}


def test_a_file_without_its_kv_cache_is_a_session_file_like_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    with LlamaBridge("demo", backend="native") as llama:
        llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
        llama.generate_continue("Thanks!", sampling=GREEDY)
        llama.session_save(path)
        past = (llama.session().tokens, llama.session().messages, llama.session().n_turns)
        manifest = read_manifest(path)
        assert drop_state(str(path)) == path.stat().st_size < 8000
        assert {**read_manifest(path), "owed": []} == {**manifest, "owed": []}
        assert read_session_file(path).n_tokens == len(past[0])
        llama.session_reset()
        found = llama.session_verify(path, deep=True)
        assert found.ok
        assert found.n_tokens == len(past[0])
        info = llama.session_load(path)
        assert (info.cached_tokens, info.evaluated_tokens) == (0, len(past[0]))
        assert "its KV cache was left out" in str(info.replayed)
        assert (llama.session().tokens, llama.session().messages, llama.session().n_turns) == past
        answer = llama.generate_continue("What is my name?", sampling=GREEDY)
        assert "Zorvane" in answer.text
        assert answer.usage.cached_tokens == len(past[0])
        llama.session_load(path, replay=True)
        llama.session_rewind()
        assert_ledger_rule(llama)
        drop_state(str(path))  # twice changes nothing
        assert llama.session_load(path).n_tokens == len(past[0])
        forge(path, manifest={"owed": ["x"]})
        with pytest.raises(SessionCorrupt, match="ledger"):
            llama.session_load(path)


def test_the_manifest_says_how_the_kept_answers_were_drawn(tmp_path: Path) -> None:
    warm = SamplingParams(temperature=0.5, max_tokens=4, seed=7)
    with _bridge(tmp_path, sampling=SHORT) as llama:
        llama.session("a").generate("Hello!")
        llama.session("b").generate("Hello!", sampling=warm)
        llama.session("c").generate("Hello!", sampling=warm, max_tokens=3)
        llama.session("c").generate_continue("Hello!", seed=9)
        llama.session("b").fork("d")
    drawn = {path.stem: read_manifest(path)["sampling"] for path in tmp_path.glob("*.session")}
    assert (drawn["a"]["temperature"], drawn["a"]["max_tokens"]) == (0, 4)
    assert drawn["b"] == drawn["d"]
    assert (drawn["b"]["temperature"], drawn["b"]["seed"]) == (0.5, 7)
    assert (drawn["c"]["temperature"], drawn["c"]["seed"]) == (0, 9)
    with _bridge(tmp_path) as llama:
        llama.session("b").rewind()
        llama.session("b").generate("Hello!", sampling=SHORT)
        llama.session("d").fork("e")
    assert json.dumps(read_manifest(tmp_path / "e.session")["sampling"]) == json.dumps(drawn["d"])
    assert read_manifest(tmp_path / "b.session")["sampling"]["temperature"] == 0
