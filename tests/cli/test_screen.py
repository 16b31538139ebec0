"""The chat as a person sees it: typed, pasted and read on real screens of 80 and 40 columns, in tmux."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from tests.cli.screens import Open

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="tmux is for POSIX"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("columns", [80, 40])
def test_an_answer_wraps_by_words(show: Open, columns: int) -> None:
    chat = show("chat", columns=columns)
    chat.prompt()
    chat.send("the fox please")
    chat.wait_for("evaluated")
    chat.prompt()
    lines = chat.lines
    answer = lines[
        lines.index("> the fox please") + 1 : next(
            i for i, line in enumerate(lines) if "cached +" in line
        )
    ]
    assert len(answer) > 3
    assert max(map(len, answer)) <= columns
    text = " ".join(line.strip() for line in answer)
    assert text.count("internationalisation.") == 3
    assert (
        text.split()
        == (
            "The quick brown fox jumps over the lazy dog and runs away through "
            "internationalisation. " * 3
        ).split()
    )
    assert all(columns - len(line) < len("internationalisation. ") for line in answer[:-1])


@pytest.mark.parametrize("columns", [80, 41])
def test_wide_letters_wrap_at_the_edge(show: Open, columns: int) -> None:
    chat = show("chat", columns=columns)
    chat.prompt()
    chat.send("wide")
    chat.wait_for("evaluated")
    lines = chat.lines
    answer = lines[
        lines.index("> wide") + 1 : next(i for i, line in enumerate(lines) if "cached +" in line)
    ]
    assert "".join(answer) == "你好，世界。" * 20
    assert all(2 * len(line) <= columns for line in answer)
    assert not any(line[0] in "，。" for line in answer)


@pytest.mark.parametrize("columns", [80, 40])
def test_what_is_pasted_is_one_message(show: Open, columns: int) -> None:
    chat = show("chat", columns=columns)
    chat.prompt()
    chat.paste("first line\nsecond line\n\nlast line")
    chat.wait_for("last line")
    time.sleep(0.3)
    assert "cached" not in "\n".join(chat.lines)
    chat.key("Enter")
    chat.wait_for("evaluated")
    chat.prompt()
    text = " ".join("\n".join(chat.lines).split())
    assert text.count("evaluated") == 1
    assert "first line|second line||last line" in text.partition("I heard")[2]


@pytest.mark.parametrize("stopped", [False, True])
def test_what_is_pasted_while_the_model_talks_waits_unseen_and_is_one_message(
    show: Open, stopped: bool
) -> None:
    chat = show("chat")
    chat.prompt()
    chat.send("a slow one")
    chat.wait_for("word word")
    chat.paste("pasted one\npasted two")
    time.sleep(0.3)
    assert "pasted" not in "\n".join(chat.lines)
    if stopped:
        chat.key("C-c")
    chat.wait_for(r"^> pasted one\n  pasted two\Z")
    assert ("[cancelled]" in "\n".join(chat.lines)) is stopped
    chat.key("Enter")
    chat.wait_for(r"pasted\s+one\|pasted\s+two")


def test_alt_enter_and_a_backslash_begin_a_new_line(show: Open) -> None:
    chat = show("chat")
    chat.prompt()
    chat.type("one")
    chat.key("M-Enter")
    chat.type("two\\")
    chat.key("Enter")
    chat.type("three")
    chat.wait_for("three")
    assert chat.lines[-3:] == ["> one", "  two", "  three"]
    chat.key("Enter")
    chat.wait_for(r"one\|two\|three")


def test_the_history_outlives_the_chat(show: Open, tmp_path: Path) -> None:
    chat = show("chat")
    chat.prompt()
    chat.paste("remember\nboth lines")
    chat.key("Enter")
    chat.wait_for("evaluated")
    chat.prompt()
    chat.key("C-d")
    assert chat.status() == 0
    kept = tmp_path / "state/llama-bridge/chat_history.jsonl"
    assert kept.stat().st_mode & 0o777 == 0o600
    again = show("chat")
    again.prompt()
    again.key("Up")
    again.wait_for(r"^> remember\n  both lines")
    again.key("Enter")
    again.wait_for(r"remember\|both lines")


def test_no_history_leaves_no_trace(show: Open, tmp_path: Path) -> None:
    chat = show("chat", "--no-history")
    chat.prompt()
    chat.send("secret")
    chat.wait_for("evaluated")
    assert not (tmp_path / "state").exists()


def test_a_home_that_cannot_be_written_is_no_trouble(show: Open, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chat = show("chat", XDG_STATE_HOME=str(tmp_path / "file"))
    chat.prompt()
    chat.send("hello")
    chat.wait_for("evaluated")
    chat.prompt()
    chat.key("Up")
    chat.wait_for("> hello\\Z")


def test_tab_completes_commands_settings_and_paths(show: Open, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "talk.session").touch()
    chat = show("chat")
    chat.prompt()
    chat.type("/reg")
    chat.key("Tab")
    chat.wait_for("> /regenerate")
    chat.key("C-c")
    chat.type("/set temp")
    chat.key("Tab")
    chat.wait_for("> /set temperature")
    chat.key("C-c")
    chat.type(f"/load {tmp_path}/a")
    chat.key("Tab")
    chat.type("t")
    chat.key("Tab")
    chat.wait_for("talk.session")
    chat.key("C-c")
    chat.type("/s")
    chat.key("Tab")
    chat.wait_for(r"/save\b.*\n?.*/switch")


def test_save_asks_before_it_overwrites(show: Open, tmp_path: Path) -> None:
    file = tmp_path / "talk"
    file.write_text("precious")
    chat = show("chat")
    chat.prompt()
    chat.send("hello")
    chat.wait_for("evaluated")
    for answer in ("n", "", "what"):
        chat.prompt()
        chat.send(f"/save {file}")
        chat.wait_for(r"exists: overwrite\? \[y/N\]$")
        chat.send(answer)
        chat.wait_for("not saved")
        assert file.read_text() == "precious"
        chat.send("/reset" if answer == "what" else "")
    chat.send("hello")
    chat.send(f"/save {file}")
    chat.wait_for(r"overwrite\? \[y/N\]\Z")
    chat.key("C-c")
    chat.prompt()
    assert file.read_text() == "precious"
    chat.send(f"/save {file}")
    chat.wait_for(r"overwrite\? \[y/N\]\Z")
    chat.send("y")
    chat.wait_for(r"^saved\s[\s\S]*talk")
    size = file.stat().st_size
    assert size > 100
    chat.send("more")
    chat.send(f"/save! {file}")
    chat.wait_for(r"(?s)^saved\s.*^saved\s")
    assert file.stat().st_size > size


def test_a_fork_shows_its_name_in_the_prompt(show: Open) -> None:
    chat = show("chat", columns=40)
    chat.prompt()
    chat.send("hello")
    chat.wait_for("evaluated")
    chat.send("/fork work")
    chat.prompt("work")
    chat.send("/switch main")
    chat.prompt()


def test_on_wasm_a_person_is_remembered_and_sees_what_came_from_the_cache(show: Open) -> None:
    chat = show("chat", LLAMA_BRIDGE_BACKEND="wasm")
    chat.prompt()
    assert not re.search("cannot|not ", "\n".join(chat.lines)), "nothing to be warned of"
    chat.send("My name is Zorblax.")
    chat.wait_for("0 cached")
    chat.prompt()
    chat.send("What is my name?")
    answer = chat.wait_for(r"(?s)^> What is my name\?\n(.*?)^(\d+) cached \+ (\d+) evaluated")
    assert "Zorblax" in answer[1]
    assert int(answer[2]) > int(answer[3])
    chat.prompt()
    chat.send("/undo")
    chat.wait_for("undid 1 turn; 2 messages left\nuser: My name is Zorblax")
    chat.send("/help")
    chat.wait_for("Ctrl-C")
    assert "not with wasm" not in "\n".join(chat.lines)


@pytest.mark.parametrize("backend", ["slow", "messages"])
def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(show: Open, backend: str) -> None:
    chat = show("chat", LLAMA_BRIDGE_BACKEND=backend)
    chat.prompt()
    chat.send("a long one")
    chat.wait_for("blah blah")
    chat.key("C-c")
    chat.wait_for(r"^\[cancelled\].* generated")
    chat.prompt()
    chat.send("and now?")
    answer = chat.wait_for(r"(?s)I heard: (.*?)^(\d+) cached")
    assert "a long one" in answer[1]
    assert "blah" in answer[1]
    assert "and now?" in answer[1]
    assert int(answer[2]) > 0


@pytest.mark.parametrize("backend", ["slow_prefill", "messages"])
def test_ctrl_c_stops_a_prefill_and_keeps_the_conversation_before_it(
    show: Open, backend: str
) -> None:
    chat = show("chat", LLAMA_BRIDGE_BACKEND=backend)
    chat.prompt()
    chat.send("first")
    chat.wait_for("evaluated")
    chat.prompt()
    began = time.monotonic()
    chat.send("many words " * 300)  # 16 seconds and more
    chat.wait_for("reading the prompt")
    chat.key("C-c")
    chat.wait_for(r"^\[cancelled\].* 0 generated")
    assert time.monotonic() - began < 15
    chat.prompt()
    chat.send("/stats")
    chat.wait_for("main: 2 messages")
    chat.send("again")
    answer = chat.wait_for(r"(?s)I heard: (.*?)^\d+ cached.*cached")
    assert "first" in answer[1]


def test_ctrl_c_at_the_prompt_clears_the_line_and_ctrl_d_leaves(show: Open) -> None:
    chat = show("chat")
    chat.prompt()
    chat.type("half typed")
    chat.wait_for("> half typed")
    chat.key("C-c")
    chat.prompt()
    chat.key("C-c")
    chat.wait_for("Ctrl-D leaves, and so does Ctrl-C again")
    chat.prompt()
    chat.send("still here")
    chat.wait_for("evaluated")
    chat.prompt()
    chat.key("C-d")
    assert chat.status() == 0


def test_ctrl_c_twice_at_the_empty_prompt_leaves(show: Open) -> None:
    chat = show("chat")
    chat.prompt()
    chat.key("C-c")
    chat.wait_for("Ctrl-D leaves, and so does Ctrl-C again")
    chat.prompt()
    time.sleep(0.3)  # the prompt is there a little before what hears the key
    chat.key("C-c")
    assert chat.status() == 130
    assert "Traceback" not in "\n".join(chat.lines)


@pytest.mark.parametrize("columns", [40, 200])
def test_help_and_stats_read_well_at_any_width(show: Open, columns: int) -> None:
    chat = show("chat", columns=columns)
    chat.prompt()
    chat.send("/help")
    chat.wait_for("Ctrl-C")
    chat.send("/stats")
    chat.wait_for("conversation")
    lines = chat.lines
    assert not [line for line in lines if line.endswith("…")]
    assert any(
        re.match(r"/undo \[N\]" + (r"$" if columns == 40 else r" +undo"), line) for line in lines
    )
