"""Other adapters make every KV cache stale: conversations go on, and what they hold is evaluated again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import Capability, GivenAdapter, LlamaBridge, SessionMismatch
from llama_bridge.files.format import read_session_file
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.ledger import GREEDY, assert_ledger_rule, machine
from tests.local.test_conversations import pool

pytestmark = pytest.mark.requires_capability("adapters")
files = pytest.mark.requires_capability("session_persistence")
tools = pytest.mark.requires_capability("session_tools")

HELLO, NAME, THANKS = "Hello! My name is Zorvane.", "What is my name?", "Thanks!"
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Writes adapters of the demo model, the same for the same seed."""
    folder, demo = tmp_path_factory.mktemp("adapters"), open_model("demo")

    def write(seed: int = 1, strength: float = 0.25) -> Path:
        path = folder / f"{seed}-{strength}.gguf"
        if not path.exists():
            write_adapter(path, demo, seed=seed, strength=strength, name=f"style {seed}")
        return path

    return write


def loras(path: Path) -> object:
    return read_session_file(path).manifest["context"]["lora"]


def test_a_prompt_that_was_cached_is_evaluated_again(llama: LlamaBridge, make: Make) -> None:
    plain = llama.generate(HELLO)
    assert llama.generate(HELLO).usage.cached_tokens == plain.usage.prompt_tokens - 1
    llama.set_adapters([make(strength=1.0)])
    adapted = llama.generate(HELLO)
    assert adapted.usage.cached_tokens == 0
    assert llama.generate(HELLO).usage.cached_tokens == plain.usage.prompt_tokens - 1
    with LlamaBridge("demo", backend=llama.backend, adapters=[make(strength=1.0)]) as other:
        assert other.generate(HELLO, temperature=0).text == adapted.text != plain.text
        assert other.adapters == llama.adapters
    llama.set_adapters([])
    again = llama.generate(HELLO)
    assert (again.text, again.usage.cached_tokens) == (plain.text, 0)


def test_the_same_adapters_by_other_names_change_nothing(
    llama: LlamaBridge, make: Make, tmp_path: Path
) -> None:
    llama.set_adapters([make(1), (make(2), 0.5)])
    plain = llama.generate(HELLO)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(make(1).read_bytes())
    llama.set_adapters([(make(2), 0.25), (copy, 1.0), (make(3), 0), (make(2), 0.25)])
    assert llama.generate(HELLO).usage.cached_tokens == plain.usage.prompt_tokens - 1
    assert [adapter.name for adapter in llama.adapters if adapter.scale == 0.5] == ["style 2"]


@tools
def test_a_conversation_goes_on_and_what_it_holds_is_owed(llama: LlamaBridge, make: Make) -> None:
    llama.generate(HELLO)
    said, messages = llama.session().tokens, llama.session().messages
    llama.set_adapters([make()])
    assert (llama.session().tokens, llama.session().messages) == (said, messages)
    assert machine(llama).kv.owed == list(said)
    answer = llama.generate_continue(NAME)
    assert answer.usage.cached_tokens == 0
    assert answer.usage.evaluated_tokens == answer.usage.prompt_tokens > len(said)
    assert_ledger_rule(llama)


@tools
@pytest.mark.parametrize("memory", [256 << 20, 0], ids=["in memory", "on the disk"])
@pytest.mark.parametrize("name", ["one", "two", "branch"])
def test_conversations_at_rest_are_evaluated_again_too(
    llama_backend: str, make: Make, memory: int, name: str
) -> None:
    with LlamaBridge(
        "demo", backend=llama_backend, session_memory=memory, sampling=GREEDY
    ) as llama:
        llama.session("one").generate(HELLO)
        llama.session("two").generate("My name is Bixby.")
        llama.session("one").fork("branch")
        llama.generate("Who are you?")
        said = llama.session(name).tokens
        llama.set_adapters([make()])
        assert llama.session(name).tokens == said
        answer = llama.session(name).generate_continue(NAME)
        assert answer.usage.cached_tokens == 0
        llama.session("two").generate_continue(THANKS)
        assert_ledger_rule(llama)


@tools
def test_what_rests_is_of_use_again_when_its_adapters_come_back(
    llama: LlamaBridge, make: Make
) -> None:
    one, two = llama.session("one"), llama.session("two")
    llama.set_adapters([make(1)])
    one.generate(HELLO)
    held = len(one.tokens)
    two.generate(HELLO)
    llama.set_adapters([make(2)])
    llama.set_adapters([make(1)])
    answer = one.generate_continue(NAME)
    assert answer.usage.cached_tokens >= held
    assert_ledger_rule(llama)


@files
def test_a_file_records_its_adapters_and_others_are_refused_by_name(
    llama: LlamaBridge, make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "a.session"
    llama.set_adapters([(make(1), 0.5)])
    llama.generate(HELLO)
    said = llama.session().tokens
    llama.session_save(path)
    (adapter,) = llama.adapters
    record = {"name": "style 1", "sha256": adapter.sha256, "scale": 0.5}
    assert loras(path) == [record]
    tries: list[list[GivenAdapter]] = [
        [],
        [make(1)],
        [(make(2), 0.5)],
        [(make(1), 0.5), make(2)],
    ]
    for others in tries:
        llama.set_adapters(others)
        llama.generate("Hi!")
        live = llama.session().tokens
        with pytest.raises(SessionMismatch, match="'style 1'") as caught:
            llama.session_load(path)
        assert caught.value.field == "context.lora"
        assert caught.value.saved == [record]
        assert "replay=True" in caught.value.why
        assert llama.session().tokens == live
        seen = llama.session_verify(path)
        assert [field.field for field in seen.fields if not field.same] == ["context.lora"]
        info = llama.session_load(path, replay=True)
        assert info.replayed is not None
        assert info.replayed.startswith("context.lora differs")
        assert llama.session().tokens == said
        assert_ledger_rule(llama)
    llama.set_adapters([(make(1), 0.5)])
    assert llama.session_load(path).replayed is None


@files
def test_a_file_fits_the_same_adapter_under_another_name(
    llama: LlamaBridge, make: Make, tmp_path: Path
) -> None:
    path, copy = tmp_path / "a.session", tmp_path / "another name.gguf"
    copy.write_bytes(make(1).read_bytes())
    llama.set_adapters([make(1), (make(2), 0.5)])
    llama.generate(HELLO)
    llama.session_save(path)
    llama.set_adapters([(make(2), 0.5), copy])
    assert llama.session_load(path).replayed is None
    llama.generate_continue(NAME)
    assert_ledger_rule(llama)


@files
def test_what_is_written_later_says_what_it_was_computed_with(
    llama: LlamaBridge, make: Make, tmp_path: Path
) -> None:
    """Named sessions are written in the background, perhaps after the adapters have changed."""
    llama.set_adapters([make(1)])
    llama.generate(HELLO)
    snapshot = machine(llama).snapshot()
    llama.set_adapters([])
    path = tmp_path / "a.session"
    pool(llama)._keeper.write(snapshot, str(path))
    assert "style 1" in json.dumps(loras(path))
    with pytest.raises(SessionMismatch, match=r"context\.lora"):
        llama.session_load(path)


@tools
@files
def test_kept_sessions_are_evaluated_again_in_a_process_with_other_adapters(
    llama_backend: str, make: Make, tmp_path: Path
) -> None:
    def open_with(*seeds: int) -> LlamaBridge:
        return LlamaBridge(
            "demo",
            backend=llama_backend,
            adapters=[make(seed) for seed in seeds],
            sessions_dir=tmp_path / "kept",
            sampling=GREEDY,
        )

    with open_with(1) as llama:
        llama.session("work").generate(HELLO)
        said = llama.session("work").tokens
    with open_with(2) as llama:
        assert llama.session("work").tokens == said
        assert llama.session("work").generate_continue(NAME).usage.cached_tokens == 0
        said = llama.session("work").tokens
        assert_ledger_rule(llama)
    with open_with(2) as llama:
        answer = llama.session("work").generate_continue(THANKS)
        assert answer.usage.cached_tokens >= len(said) - 1


def test_an_answer_that_is_half_read_ends_with_the_adapters_it_began_with(
    llama: LlamaBridge, make: Make
) -> None:
    expected = llama.generate(HELLO).text
    stream = llama.generate_stream(HELLO)
    first = next(stream)
    llama.set_adapters([make(strength=1.0)])
    assert first + "".join(stream) == expected
    assert Capability.ADAPTERS in llama.capabilities
