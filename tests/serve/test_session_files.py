"""A conversation with its KV cache goes from one window to another as a file, and goes on there with nothing read again."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.serve import ServerSettings
from llama_bridge.serve.app import application
from llama_bridge.serve.served import OneModel

from .serving import Address, serving

PLACE = "/app/sessions"
GREEDY = SamplingParams(temperature=0)

pytestmark = pytest.mark.requires_capability("session_persistence")


@contextmanager
def window(folder: Path, backend: str, **settings: Any) -> Generator[Address]:
    """The server of a window, with the demo model."""
    with LlamaBridge("demo", backend=backend, sampling=GREEDY, **settings) as llama:
        models = OneModel(AsyncLlamaBridge.of(llama), ("demo",))
        with serving(application(models, ServerSettings(), None, folder)) as address:
            yield address


@pytest.fixture
def one(tmp_path: Path, llama_backend: str) -> Iterator[Address]:
    with window(tmp_path / "one", llama_backend) as address:
        yield address


def asked(address: Address, words: str, before: str | None = None) -> Any:
    """A response to a question, with a system message that each request has to bring."""
    made = address.openai().responses.create(
        model="demo",
        input=words,
        instructions="Be short.",
        previous_response_id=before,
        max_output_tokens=30,
    )
    assert made.usage is not None
    return made


def test_a_conversation_goes_on_in_another_window(
    one: Address, tmp_path: Path, llama_backend: str
) -> None:
    first = asked(one, "Hello! My name is Zorblax.")
    facts = one.ask("GET", f"{PLACE}/{first.id}").json
    assert facts["saves"]
    assert facts["tokens"] >= first.usage.total_tokens - 1
    file = one.ask("GET", f"{PLACE}/{first.id}/file")
    assert file.status == 200
    with window(tmp_path / "two", llama_backend) as two:
        assert two.ask("GET", f"{PLACE}/{first.id}").json is None
        loaded = two.ask("PUT", f"{PLACE}/files/talk.session", file.body).json
        assert loaded["evaluated"] == 0
        assert loaded["replayed"] is None
        assert [message["role"] for message in loaded["messages"]] == [
            "system",
            "user",
            "assistant",
        ]
        assert loaded["messages"][2]["content"] == first.output_text
        there = asked(two, "What is my name?", loaded["id"])
    here = asked(one, "What is my name?", first.id)
    assert there.output_text == here.output_text
    assert "Zorblax" in there.output_text
    assert there.usage.input_tokens_details.cached_tokens >= facts["tokens"] - 1
    assert there.usage == here.usage


def test_a_file_that_does_not_fit_is_refused_by_its_name_and_can_be_read_again(
    one: Address, tmp_path: Path, llama_backend: str
) -> None:
    first = asked(one, "Hello! My name is Zorblax.")
    file = one.ask("GET", f"{PLACE}/{first.id}/file").body
    with window(tmp_path / "two", llama_backend, type_k="f32") as two:
        refused = two.ask("PUT", f"{PLACE}/files/my%20talk.session", file)
        assert refused.status == 409
        assert refused.error["code"] == "session_mismatch"
        assert refused.error["message"].startswith("my talk.session: ")
        loaded = two.ask("PUT", f"{PLACE}/files/my%20talk.session?replay=1", file).json
        assert loaded["evaluated"] > 0
        assert "Zorblax" in asked(two, "What is my name?", loaded["id"]).output_text
        broken = two.ask("PUT", f"{PLACE}/files/x.session", file[:-100])
        assert broken.status == 400
        assert broken.error["message"].startswith("x.session: ")
        assert str(tmp_path) not in broken.error["message"]


def test_a_disk_that_gets_full_while_a_file_arrives_is_told(one: Address) -> None:
    resource = pytest.importorskip("resource", reason="Windows bounds no file")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        refused = one.ask("PUT", f"{PLACE}/files/x.session", bytes(3 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.status == 507
    assert "File too large" in refused.error["message"]


def test_what_is_not_in_the_cache_is_not_saved(one: Address) -> None:
    refused = one.ask("GET", f"{PLACE}/resp_nothing/file")
    assert refused.status == 404
    assert "not here any more" in refused.error["message"]
    assert one.ask("GET", f"{PLACE}/resp_nothing").json is None


def test_a_file_is_verified_field_by_field_and_by_its_logits_and_nothing_is_loaded(
    one: Address, tmp_path: Path, llama_backend: str
) -> None:
    first = asked(one, "Hello! My name is Zorblax.")
    file = one.ask("GET", f"{PLACE}/{first.id}/file").body
    good = one.ask("PUT", f"{PLACE}/checks/talk.session", file).json
    assert good["ok"]
    assert good["logits"]["ok"]
    assert good["differing"] == []
    with window(tmp_path / "two", llama_backend, type_k="f32") as two:
        other = two.ask("PUT", f"{PLACE}/checks/talk.session", file).json
        assert not other["ok"]
        assert [(one["field"], one["saved"]) for one in other["differing"]] == [
            ("context.kv_type_k", "f16")
        ]
    broken = one.ask("PUT", f"{PLACE}/checks/my%20talk.session", file[:-100])
    assert broken.status == 400
    assert broken.error["message"].startswith("my talk.session: ")
    assert "Zorblax" in asked(one, "What is my name?", first.id).output_text
