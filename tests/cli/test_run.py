"""``llama-bridge run``: one answer, and a conversation kept in a file between two commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import Backend, LlamaBridge
from llama_bridge.models.source import open_model
from llama_bridge.testing import Asked, FakeAnswer, FakeBackend
from tests.cli.conftest import Program, Run

Install = Callable[[Sequence[Backend]], None]


def context(asked: Asked) -> str:
    return asked.context.replace("\n", "|")


def test_the_answer_is_all_that_is_on_standard_output(run: Run, llama_backend: str) -> None:
    result = run("run", "--backend", llama_backend, "My name is Zorvane.")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.endswith("\n")
    record = json.loads(
        run("run", "--backend", llama_backend, "--json", "My name is Zorvane.").stdout
    )
    assert result.stdout == record["text"] + "\n"
    assert record["backend"] == llama_backend
    assert record["mode"] == "fresh"
    assert record["finish_reason"] == "stop"
    assert record["fallback"] is None
    assert record["usage"]["evaluated_tokens"] == record["usage"]["prompt_tokens"] > 0
    assert record["session"] is None


def test_a_context_smaller_than_a_batch_can_be_filled(program: Program, llama_backend: str) -> None:
    # llama.cpp ends the process at a batch larger than its n_batch, which follows the smaller n_ctx.
    with LlamaBridge("demo", backend=llama_backend) as llama:
        words = 100 * 400 // len(llama.tokenize("x " * 100))
    args = ("run", "--backend", llama_backend, "--raw", "--json", "--max-tokens", "2")
    done = program(*args, "--n-ctx", "300", "x " * words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["evaluated_tokens"] > 300


@pytest.mark.requires_capability("session_persistence", "kv_continuation")
def test_a_session_file_is_continued_by_the_next_command(
    run: Run, llama_backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "a talk.session"
    args = ("run", "--backend", llama_backend, "--session", file)
    assert run(*args, "My name is Zorvane.").exit_code == 0
    size = file.stat().st_size
    record = json.loads(run(*args, "--json", "What is my name?").stdout)
    assert record["mode"] == "continued"
    assert record["usage"]["cached_tokens"] > record["usage"]["evaluated_tokens"] > 0
    assert record["session"]["n_messages"] == 4
    assert record["session"]["n_bytes"] == file.stat().st_size > size


@pytest.mark.requires_capability("session_persistence")
def test_a_damaged_session_file_is_refused_and_left_as_it_is(
    run: Run, llama_backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "damaged.session"
    file.write_bytes(b"not a session at all" * 20)
    result = run("run", "--backend", llama_backend, "--session", file, "Hello!")
    assert result.exit_code == 1
    assert "this is a text file, not a session" in result.stderr
    assert result.stdout == ""
    assert file.read_bytes() == b"not a session at all" * 20


@pytest.mark.lacks_capability("session_persistence")
def test_without_persistence_a_session_is_refused_before_any_work(
    run: Run, llama_backend: str, tmp_path: Path
) -> None:
    file = tmp_path / "never.session"
    result = run("run", "--backend", llama_backend, "--session", file, "Hello!")
    assert result.exit_code == 1
    assert "session_persistence is not supported" in result.stderr
    assert result.stdout == ""
    assert not file.exists()


def test_another_context_size_is_explained_with_the_option_that_mends_it(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([FakeBackend()])
    file = tmp_path / "big.session"
    assert run("run", "--session", file, "--n-ctx", "2000", "x" * 500).exit_code == 0
    result = run("run", "--session", file, "--n-ctx", "100", "hi")
    assert result.exit_code == 1
    assert "context.n_ctx differs" in result.stderr
    assert "try --n-ctx 2000" in result.stderr


def test_another_model_is_named_without_its_digests(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([FakeBackend()])
    file, other = tmp_path / "other.session", tmp_path / "other.gguf"
    weights = bytearray(open_model("demo").path.read_bytes())
    weights[-1] ^= 1
    other.write_bytes(weights)
    assert run("run", "--model", other, "--session", file, "hi").exit_code == 0
    result = run("run", "--session", file, "hi")
    assert result.exit_code == 1
    assert "saved with another model: model.weights differs" in result.stderr
    assert len(result.stderr) < 200 + len(str(file))


@pytest.mark.parametrize("argument", [(), ("-",)])
def test_the_prompt_can_come_through_a_pipe(
    run: Run, installed: Install, argument: tuple[str, ...]
) -> None:
    installed([FakeBackend()])
    assert run("run", *argument, given="two\nlines\n").stdout == "You said: two\nlines\n"


def test_raw_text_passes_the_template_by_and_a_system_message_opens_the_chat(
    run: Run, installed: Install
) -> None:
    installed([FakeBackend(context)])
    assert "<|user|>" not in run("run", "--raw", "Once upon").stdout
    shown = run("run", "--system", "Be brief.", "Hello").stdout
    assert "<|system|>|Be brief.<|end|>|<|user|>|Hello<|end|>" in shown


def test_why_an_answer_was_cut_off_is_noted_beside_it(run: Run, installed: Install) -> None:
    installed([FakeBackend("abcdefghij" * 20)])
    result = run("run", "--max-tokens", "5", "hi")
    assert (result.stdout, result.exit_code) == ("abcde\n", 0)
    assert result.stderr == "note: cut off by --max-tokens 5\n"
    result = run("run", "--max-tokens", "0", "--n-ctx", "100", "hi")
    assert result.stderr == "note: cut off: the context is full\n"
    assert 5 < len(result.stdout) < 100


def test_an_engine_that_fails_in_the_middle_is_one_error(run: Run, installed: Install) -> None:
    installed([FakeBackend(FakeAnswer("abcdefgh", fails_after=3))])
    result = run("run", "hi")
    assert result.exit_code == 1
    assert result.stdout.startswith("abc")
    assert result.stderr == "error: the fake failed, as it was told to\n"


def test_seed_and_temperature_reach_the_sampler(program: Program) -> None:
    args = ("run", "--temperature", "1.5", "--raw", "--max-tokens", "12", "--json")
    texts = [
        json.loads(program(*args, "--seed", seed, "Once upon").stdout)["text"]
        for seed in ("1", "1", "2")
    ]
    assert texts[0] == texts[1] != texts[2]


def test_an_answer_fits_the_schema_or_the_grammar_in_a_file(
    run: Run, llama_backend: str, tmp_path: Path
) -> None:
    schema, grammar = tmp_path / "shape.json", tmp_path / "shape.gbnf"
    properties = {"name": {"type": "string", "maxLength": 20}, "alive": {"type": "boolean"}}
    schema.write_text(
        json.dumps({"type": "object", "properties": properties, "required": list(properties)})
    )
    grammar.write_text('root ::= ("ja" | "nein") "!"')
    args = ("run", "--backend", llama_backend, "My name is Zorvane.")
    result = run(*args, "--json-schema", schema)
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"name", "alive"}
    record = json.loads(run(*args, "--json-schema", schema, "--json").stdout)
    assert record["parsed"] == json.loads(record["text"]) == json.loads(result.stdout)
    assert run(*args, "--grammar", grammar).stdout in ("ja!\n", "nein!\n")


def test_calls_of_tools_are_lines_of_json(run: Run, llama_backend: str, tmp_path: Path) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}}
    weather = {"name": "weather", "description": "Tells the weather.", "parameters": city}
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": weather}]))
    args = ("run", "--backend", llama_backend, "--tools", tmp_path / "tools.json")
    result = run(*args, "--tool-choice", "weather", "Weather in Oslo?")
    assert result.exit_code == 0, result.stderr
    call = json.loads(result.stdout.splitlines()[-1])
    assert call["name"] == "weather"
    assert set(call["arguments"]) <= {"city"}
    record = json.loads(run(*args, "--tool-choice", "required", "Hi", "--json").stdout)
    assert record["finish_reason"] == "tool_calls"
    assert record["tool_calls"][0]["name"] == "weather"


def test_tools_that_cannot_be_used_are_one_error(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([FakeBackend()])
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "broken.json").write_text("[")
    (tmp_path / "nameless.json").write_text('[{"type": "function", "function": {}}]')
    for file, said in (
        ("object.json", "not a list"),
        ("broken.json", "not JSON"),
        ("nameless.json", "name"),
        ("missing.json", "cannot read"),
    ):
        result = run("run", "--tools", tmp_path / file, "hi")
        assert result.exit_code > 0
        assert said in result.stderr
        assert result.stdout == ""
    result = run("run", "--tools", tmp_path / "object.json", "--raw", "hi")
    assert result.exit_code == 2
    assert "excludes" in result.stderr


def test_a_schema_or_grammar_that_cannot_be_used_is_one_error(
    run: Run, installed: Install, tmp_path: Path
) -> None:
    installed([FakeBackend()])
    wrong, grammar = tmp_path / "wrong.json", tmp_path / "wrong.gbnf"
    wrong.write_text('{"type": "dragon"}')
    grammar.write_text("root ::= nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for option, file, said in (
        ("--json-schema", wrong, "type"),
        ("--grammar", grammar, "nothing"),
        ("--json-schema", tmp_path / "missing.json", "cannot read"),
        ("--grammar", tmp_path / "binary", "cannot read"),
    ):
        result = run("run", option, file, "hi")
        assert result.exit_code > 0
        assert said in result.stderr
        assert result.stdout == ""
    result = run("run", "--json-schema", wrong, "--grammar", grammar, "hi")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_a_choice_of_tools_needs_tools(run: Run) -> None:
    result = run("run", "--tool-choice", "required", "hi")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--tool-choice needs --tools" in result.stderr


def test_files_may_begin_with_the_mark_that_windows_writes(run: Run, tmp_path: Path) -> None:
    for option, text in (("--grammar", 'root ::= "7"'), ("--json-schema", '{"const": 7}')):
        (tmp_path / "file").write_text(text, encoding="utf-8-sig")
        assert run("run", "hi", option, tmp_path / "file").stdout == "7\n"


def test_a_session_without_a_name_is_refused_before_the_answer(run: Run) -> None:
    result = run("run", "hi", "--session", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--session" in result.stderr
