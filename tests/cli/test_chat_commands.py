"""The commands of a chat, through a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import cast

import pytest

from llama_bridge import Backend, SamplingParams
from llama_bridge.cli.chat_commands import COMMANDS
from llama_bridge.testing import Answer, Asked, FakeAnswer, FakeBackend
from tests.cli.conftest import Run

Install = Callable[[Sequence[Backend]], None]
Chat = Callable[..., list[str]]


def heard(asked: Asked) -> str:
    """Answers with all that the conversation holds."""
    return asked.context.replace("\n", "|")


Lacks = tuple[str, ...]


@pytest.fixture(params=[(), ("kv_continuation",)], ids=["sessions", "messages"])
def lacks(request: pytest.FixtureRequest) -> Lacks:
    """What the backend lacks: without continuation a chat keeps the messages, and nobody notices."""
    return cast("Lacks", request.param)


@pytest.fixture
def chat(run: Run, installed: Install, lacks: Lacks) -> Chat:
    """The lines that a chat answers with."""

    def talk(*lines: str, fails: str = "") -> list[str]:
        installed([FakeBackend(heard, lacks=lacks)])
        result = run("chat", given="\n".join(lines) + "\n")
        assert result.exit_code == (1 if fails else 0), result.output
        assert fails in result.stderr
        return result.stdout.splitlines()

    return talk


def test_undo_takes_back_the_last_turns(chat: Chat) -> None:
    lines = chat("one", "two", "three", "/undo", "/undo 1", "four")
    assert lines[3:5] == ["undid 1 turn; 4 messages left", "undid 1 turn; 2 messages left"]
    assert "one" in lines[5]
    assert "two" not in lines[5]
    assert "three" not in lines[5]
    assert chat("one", "two", "/undo 2", "three")[2] == "undid 2 turns; 0 messages left"


@pytest.mark.parametrize("turns", ["x", "0", "-1", "1.5", "9" * 5000, "none"])
def test_undo_of_a_strange_number_is_refused_and_nothing_is_lost(chat: Chat, turns: str) -> None:
    lines = chat("one", f"/undo {turns}", "two", fails="turns=")
    assert "one" in lines[-1]


def test_undo_of_more_than_there_is_is_refused(chat: Chat) -> None:
    assert "one" in chat("one", "/undo 2", "two", fails="error: ")[-1]


def test_regenerate_answers_anew_in_place_of_the_answer(
    run: Run, installed: Install, lacks: Lacks
) -> None:
    numbers = count(1)
    installed([FakeBackend(lambda _: f"answer {next(numbers)}", lacks=lacks)])
    result = run("chat", given="hello\n/regenerate\n/stats\n")
    assert result.stdout.splitlines()[:2] == ["answer 1", "answer 2"]
    assert "main: 2 messages" in result.stdout
    installed([FakeBackend(lacks=lacks)])
    result = run("chat", given="/regenerate\nhello\n")
    assert result.exit_code == 1
    assert result.stdout == "You said: hello\n"


def test_a_fork_goes_its_own_way_and_one_can_switch_back(chat: Chat) -> None:
    lines = chat(
        "common", "/fork work", "aside", "/switch main", "ahead", "/switch", "/switch work"
    )
    assert lines[1] == "this is work, a copy of main; /switch main goes back"
    assert "common" in lines[2]
    assert lines[3] == "this is main: 2 messages"
    assert "common" in lines[4]
    assert "aside" not in lines[4]
    assert lines[5:7] == ["* main  4 messages", "  work  4 messages"]
    assert lines[7] == "this is work: 4 messages"


def test_a_fork_without_a_name_gets_one(chat: Chat) -> None:
    lines = chat("common", "/fork", "/switch")
    name = lines[1].split(",")[0].removeprefix("this is ")
    assert f"* {name}" in lines[-1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/fork main", "there is already a conversation main"),
        ("/fork twice", "there is already a "),
        ("/switch nowhere", "no conversation nowhere; choose from: main, twice"),
    ],
)
def test_a_wrong_name_is_refused(chat: Chat, line: str, says: str) -> None:
    lines = chat("one", "/fork twice", "/switch main", line, "two", fails=says)
    assert "one" in lines[-1]


def test_a_system_message_begins_the_next_conversation(chat: Chat, lacks: Lacks) -> None:
    lines = chat("/system Be brief.", "one", "/system Be kind.", "two", "/reset", "three")
    assert lines[0] == "set, from now on"
    assert "Be brief." in lines[1]
    if lacks:  # the messages are read anew each time
        assert lines[2] == "set, from now on"
        assert lines[3].startswith("<s><|system|>|Be kind.")
    else:
        assert lines[2] == "set, from the next conversation on: /reset starts one"
        assert "Be kind." not in lines[3]
    assert "Be kind." in lines[5]
    lines = chat("/system Be brief.", "/stats", "/system -", "one")
    assert any(line.split() == ["system", "Be", "brief."] for line in lines)
    assert "Be brief." not in lines[-1]


def test_every_setting_of_sampling_can_be_set_and_is_shown(chat: Chat) -> None:
    values = {
        "max_tokens": "7",
        "temperature": "0.2",
        "top_k": "3",
        "top_p": "0.5",
        "min_p": "0.1",
        "repeat_penalty": "1.1",
        "frequency_penalty": "-0.5",
        "presence_penalty": "0.5",
        "repeat_last_n": "9",
        "seed": "42",
        "speculate": "false",
    }
    lines = chat(*(f"/set {name} {value}" for name, value in values.items()), "/set")
    shown = dict(line.split(None, 1) for line in lines[len(values) :])
    assert set(shown) == {field.name for field in fields(SamplingParams)}
    assert shown.items() >= values.items()
    assert [line.split() for line in lines[: len(values)]] == [
        list(pair) for pair in values.items()
    ]


def test_settings_reach_the_answers_in_any_spelling(chat: Chat) -> None:
    lines = chat("/set max-tokens=5", "hello", "/set max_tokens none", "hello", "/set seed")
    assert len(lines[1]) == 5
    assert lines[2].split() == ["max_tokens", "none"]
    assert len(lines[3]) > 5
    assert lines[4].split() == ["seed", "none"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/set temperature hot", "temperature='hot': temperature must be a number from 0 to 100"),
        ("/set temperature -1", "temperature=-1: temperature must be a number from 0 to 100"),
        ("/set temperature nan", "temperature must be a number"),
        ("/set top_k 1.5", "top_k must be a whole number"),
        ("/set top_p none", "top_p must be a number"),
        ("/set heat 3", "no setting of that name; choose from: max_tokens, temperature"),
        ("/set heat", "no setting of that name; choose from: max_tokens, temperature"),
    ],
)
def test_a_wrong_setting_is_refused_as_by_the_library(chat: Chat, line: str, says: str) -> None:
    before = chat("/set")
    assert chat(line, "/set", fails=says) == before


def test_in_a_pipe_save_overwrites_as_ever_for_there_is_nobody_to_ask(
    chat: Chat, tmp_path: Path
) -> None:
    file = tmp_path / "talk"
    file.write_text("something else")
    assert chat("one", f"/save {file}")[-1].startswith(f"saved {file}: ")
    assert chat("one", "two", f"/save! {file}")[-1].startswith(f"saved {file}: ")
    assert chat(f"/load {file}")[-1].endswith("4 messages")


def test_help_lists_each_command_with_one_line(chat: Chat) -> None:
    lines = chat("/help")
    for name, command in COMMANDS.items():
        (line,) = (line for line in lines if line.split()[0] == name)
        assert line.startswith(f"{name} {command.argument}".strip())
        assert command.what in line


def test_what_is_not_a_command_says_how_to_say_it(chat: Chat) -> None:
    chat("/etc/passwd", fails="no command /etc/passwd: /help lists them, //text sends /text")
    assert chat("//etc/passwd")[0].count("/etc/passwd") == 1


def test_an_answer_that_breaks_leaves_the_conversation_usable(
    run: Run, installed: Install, lacks: Lacks
) -> None:
    answers: list[Answer] = ["one", FakeAnswer("half", fails_after=2), "two"]
    installed([FakeBackend(answers, lacks=lacks)])
    result = run("chat", given="a\nb\nc\n/stats\n")
    assert result.stdout.splitlines()[2] == "two"
    assert "main: 4 messages" in result.stdout
    assert result.exit_code == 1


def test_messages_are_saved_as_json_and_loaded_with_their_system_message(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    file = tmp_path / "a talk.json"
    installed([FakeBackend(heard, lacks="kv_continuation")])
    lines = f"/system Be brief.\none\n/save {file}\n"
    saved = run("chat", given=lines).stdout.splitlines()[-1]
    assert saved.startswith(f"saved {file}: 2 messages, ")
    messages = json.loads(file.read_text())
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    loaded, answer = run("chat", given=f'/load "{file}"\ntwo\n').stdout.splitlines()
    assert loaded == f"loaded {file}: 2 messages"
    assert answer.index("Be brief.") < answer.index("one") < answer.index("two")


def test_without_sessions_the_messages_of_a_session_file_can_still_be_used(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    file = tmp_path / "talk"
    installed([FakeBackend(heard)])
    run("chat", given=f"/system Be brief.\none\n/save {file}\n")
    installed([FakeBackend(heard, lacks=("kv_continuation", "session_persistence"))])
    loaded, answer = run("chat", given=f"/load {file}\ntwo\n").stdout.splitlines()
    assert loaded.endswith(": 2 messages")
    assert answer.index("Be brief.") < answer.index("one") < answer.index("two")


ONE = '{"role": "user", "content": "one"}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "holds no conversation: messages is empty"),
        ("[" * 5000, "holds no conversation"),
        ('{"role": "user"}', "holds no conversation"),
        ('[{"role": "user"}]', "holds no conversation: messages[0] needs the strings"),
        (f"[{ONE}]", "its messages are not questions and answers in turn"),
        (f"[{ONE}, {ONE}]", "its messages are not questions and answers in turn"),
        ('[{"role": "user", "content": "\\ud800"}]', "contains a lone surrogate"),
        ("remember the milk", "this is a text file, not a session"),
        ("", "not a session file: 0 bytes"),
        (None, "no such file"),
    ],
)
def test_a_file_without_a_conversation_is_refused_and_the_one_here_stays(
    run: Run, installed: Install, tmp_path: Path, content: str | None, says: str
) -> None:
    file = tmp_path / "talk.json"
    if content is not None:
        file.write_text(content)
    installed([FakeBackend(heard, lacks="kv_continuation")])
    result = run("chat", given=f"one\n/load {file}\ntwo\n")
    assert says in result.stderr
    assert result.stderr.count("error: ") == 1
    assert "one" in result.stdout.splitlines()[-1]


def test_a_model_without_template_goes_on_with_the_text(run: Run, installed: Install) -> None:
    installed([FakeBackend(heard, lacks=("kv_continuation", "chat_template"))])
    lines = run("chat", given="Once upon\n a time\n").stdout.splitlines()
    assert lines == ["<s>Once upon", "<s>Once upon<s>Once upon a time"]
