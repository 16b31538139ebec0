"""What the chat application keeps on the server of its window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.serve import ServerSettings, app
from llama_bridge.serve.app import application
from llama_bridge.serve.served import OneModel
from llama_bridge.testing import FakeLlama

from .serving import Address, serving

PLACE = "/app/conversations"
ONE, TWO = f"t{1:024x}", f"t{2:024x}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def address(folder: Path) -> Iterator[Address]:
    with FakeLlama() as llama:
        models = OneModel(AsyncLlamaBridge.of(llama), ("fake",))
        with serving(application(models, ServerSettings(), None, folder)) as found:
            yield found


def talk(id_: str, title: str, text: str) -> dict[str, object]:
    return {"id": id_, "title": title, "changed": 7, "messages": {"m": {"text": text}}}


def test_they_are_kept_listed_found_and_deleted(address: Address, folder: Path) -> None:
    assert address.ask("GET", PLACE).json == {"heads": []}
    assert address.ask("GET", f"{PLACE}/{ONE}").json is None
    for id_, title, text in ((ONE, "Bridges", "arches"), (TWO, "Animals", "Llamas 🦙 and ÄMTER")):
        kept = {"conversation": talk(id_, title, text)}
        assert address.ask("PUT", f"{PLACE}/{id_}", kept).status == 204
    assert address.ask("GET", f"{PLACE}/{TWO}").json["messages"]["m"]["text"].startswith("Llamas")
    heads = address.ask("GET", f"{PLACE}?find=%C3%A4mter").json["heads"]
    assert [{**head, "stamp": ""} for head in heads] == [
        {"id": TWO, "title": "Animals", "changed": 7, "stamp": ""}
    ]
    (folder / f"t{3:024x}.json").write_text("no JSON")
    assert [head["id"] for head in address.ask("GET", PLACE).json["heads"]] == [ONE, TWO]
    assert address.ask("DELETE", f"{PLACE}/{ONE}").status == 204
    assert [head["id"] for head in address.ask("GET", PLACE).json["heads"]] == [TWO]


@pytest.mark.parametrize("id_", ["x", "..%2Fsecret", "t" + "z" * 24, ONE + "0"])
def test_no_id_leads_out_of_the_folder(address: Address, folder: Path, id_: str) -> None:
    (folder.parent / "secret.json").write_text(json.dumps({"id": "secret"}))
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"conversation": {}})):
        assert address.ask(method, f"{PLACE}/{id_}", body).status == 404
    assert (folder.parent / "secret.json").exists()


def test_other_servers_keep_none() -> None:
    with FakeLlama() as llama, serving(app(llama, name="fake")) as address:
        assert address.ask("GET", PLACE).status == 404


def test_preferences_are_kept_and_a_broken_file_is_none(address: Address, folder: Path) -> None:
    assert address.ask("GET", "/app/preferences").json == {}
    for language in ("de", "en"):
        kept = {"preferences": {"language": language, "costs": True}}
        assert address.ask("PUT", "/app/preferences", kept).status == 204
    assert address.ask("GET", "/app/preferences").json == {"language": "en", "costs": True}
    assert address.ask("GET", PLACE).json == {"heads": []}
    assert address.ask("PUT", "/app/preferences", {"preferences": 7}).status == 400
    (folder / "preferences.json").write_text("no JSON")
    assert address.ask("GET", "/app/preferences").json == {}


def test_one_that_is_kept_many_times_at_once_is_kept(address: Address) -> None:
    def keep(number: int) -> int:
        kept = {"conversation": talk(ONE, "Busy", str(number))}
        return address.ask("PUT", f"{PLACE}/{ONE}", kept).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(keep, range(200))) == {204}


def test_two_servers_of_one_folder_lose_nothing_that_both_write(folder: Path) -> None:
    def server() -> Any:
        llama = stack.enter_context(FakeLlama())
        models = OneModel(AsyncLlamaBridge.of(llama), ("fake",))
        return stack.enter_context(serving(application(models, ServerSettings(), None, folder)))

    def add_all(address: Address) -> None:
        for number in range(20):
            add(address, number)

    def add(address: Address, number: int) -> None:
        for _ in range(200):
            found = address.ask("GET", f"{PLACE}/{ONE}")
            texts = (found.json or {"texts": []})["texts"]
            was = quote(found.headers.get("etag", ""))
            kept = {"conversation": {"id": ONE, "texts": [*texts, number]}}
            answer = address.ask("PUT", f"{PLACE}/{ONE}?was={was}", kept)
            if answer.status == 204:
                return
            assert answer.error["code"] == "conversation_changed"
        raise AssertionError("another one was always faster")

    with ExitStack() as stack:
        one, two = server(), server()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(add_all, (one, two)))
        assert sorted(two.ask("GET", f"{PLACE}/{ONE}").json["texts"]) == sorted([*range(20)] * 2)
        assert one.ask("DELETE", f"{PLACE}/{ONE}").status == 204
        kept = {"conversation": {"id": ONE}}
        assert two.ask("PUT", f"{PLACE}/{ONE}?was=1-1", kept).status == 409
        assert two.ask("GET", PLACE).json == {"heads": []}


@pytest.mark.parametrize(
    "damage",
    [
        {"messages": ["x"]},
        {"messages": {"m": 5}},
        {"title": {"a": 1}},
        {"title": "\ud83d"},
        {"changed": float("nan")},
        {"changed": "yesterday"},
    ],
)
def test_a_damaged_conversation_does_not_hide_the_others(
    address: Address, folder: Path, damage: dict[str, object]
) -> None:
    assert address.ask("PUT", f"{PLACE}/{ONE}", {"conversation": talk(ONE, "A", "b")}).status == 204
    (folder / f"{TWO}.json").write_text(json.dumps(talk(TWO, "Two", "b") | damage))
    (folder / f"t{3:024x}.json").write_text("[" * 100_000)
    (folder / f"t{4:024x}.json").mkdir()
    for place in (PLACE, f"{PLACE}?find=b"):
        assert ONE in [head["id"] for head in address.ask("GET", place).json["heads"]]


def test_what_cannot_be_kept_or_deleted_is_told_with_its_place(
    address: Address, folder: Path
) -> None:
    kept = {"conversation": talk(ONE, "A", "b")}
    folder.write_text("no folder")
    refused = address.ask("PUT", f"{PLACE}/{ONE}", kept)
    assert refused.status == 500
    assert f"cannot be kept in {folder}: " in refused.error["message"]
    folder.unlink()
    (folder / f"{ONE}.json").mkdir(parents=True)
    for method, done in (("PUT", "kept"), ("DELETE", "deleted")):
        refused = address.ask(method, f"{PLACE}/{ONE}", kept if method == "PUT" else None)
        assert f"cannot be {done} in {folder}: " in refused.error["message"]
