"""What a window asks about models: they are listed, fetched, kept, loaded in place of each other, and removed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.aio import AsyncLlamaBridge
from llama_bridge.hub import transfer
from llama_bridge.hub.shelf import KeptModel, kept_models
from llama_bridge.serve import ServerSettings, library
from llama_bridge.serve.app import application
from llama_bridge.serve.current_model import CurrentModel
from llama_bridge.serve.served import Served
from llama_bridge.testing.hub import HubServer
from tests.hub.conftest import keep_compiled, real

from .serving import Address, Reply, serving, until

PLACE = "/app/models"
Q4 = "hf:org/repo/a-Q4_K_M.gguf"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with two models, and a user who has none."""
    keep_compiled(tmp_path / "caches")
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    with HubServer() as server:
        for name, value in (server.environment(tmp_path) | {"HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        server.add("org/repo", {"a-Q4_K_M.gguf": real("aaaa"), "a-Q8_0.gguf": real("bbbb")})
        yield server


@pytest.fixture
def window(hub: HubServer, tmp_path: Path, llama_backend: str) -> Iterator[Address]:
    """The server of a window, with the demo model."""

    def arguments(name: str, untrusted: bool) -> dict[str, Any]:
        backend = "auto" if untrusted else llama_backend
        return {
            "backend": backend,
            "untrusted": untrusted,
            "params": ModelParams(),
            "sampling": greedy,
        }

    greedy = SamplingParams(temperature=0)
    with LlamaBridge("demo", backend=llama_backend, sampling=greedy) as llama:
        models = CurrentModel(Served("demo", AsyncLlamaBridge.of(llama)), arguments)
        # No request may be as large as a model, but files may.
        settings = ServerSettings(max_body=100_000)
        made = application(models, settings, None, tmp_path / "conversations")
        with serving(made) as address:
            yield address


def listed(window: Address) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in window.ask("GET", PLACE).json["models"]}


def told(reply: Reply) -> list[dict[str, Any]]:
    """The events of a stream."""
    assert reply.status == 200, reply.body
    lines = reply.body.decode().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def test_a_model_is_looked_at_fetched_loaded_and_removed(window: Address) -> None:
    assert list(listed(window)) == ["demo"]
    seen = window.post(f"{PLACE}/look", {"model": "hf:org/repo"}).json
    assert (seen["state"], seen["id"], seen["size"]) == ("away", Q4, len(real("aaaa")))
    assert seen["fits"]["n_ctx"] == seen["fits"]["most"] == 1024
    events = told(window.post(f"{PLACE}/pull", {"model": "hf:org/repo"}))
    assert events[-1] == {"id": Q4}
    assert window.post(f"{PLACE}/look", {"model": "hf:org/repo"}).json["state"] == "here"
    assert listed(window)[Q4]["state"] == "here"
    events = told(window.post(f"{PLACE}/use", {"model": Q4}))
    assert events[-1] == {"id": Q4}
    assert {id_: model["state"] for id_, model in listed(window).items()} == {
        Q4: "loaded",
        "demo": "here",
    }
    answer = window.openai().responses.create(model=Q4, input="Hello!", max_output_tokens=4)
    assert answer.output_text
    refused = window.post(f"{PLACE}/remove", {"model": Q4})
    assert refused.status == 409
    assert "load another model first" in refused.error["message"]
    told(window.post(f"{PLACE}/use", {"model": "demo"}))
    assert window.post(f"{PLACE}/remove", {"model": Q4}).json == {"freed": len(real("aaaa"))}
    assert list(listed(window)) == ["demo"]


def test_a_download_that_is_stopped_goes_on(window: Address, hub: HubServer) -> None:
    """The one that was chosen goes on: not the best of the repository, which nobody has begun."""
    for path in ("/plain/*", "/blob/*"):
        hub.fail("cut", path=path, after=1_000_000, times=transfer.TRIES + 2)
        hub.fail("no_ranges", path=path, times=transfer.TRIES + 1)
    events = told(window.post(f"{PLACE}/pull", {"model": "hf:org/repo:Q8_0"}))
    assert (
        "1.0 MB have arrived, and the next try continues from there"
        in (events[-1]["error"]["message"])
    )
    hub.faults.clear()
    (part,) = (model for model in listed(window).values() if model["state"] == "part")
    assert part["done"] == 1_000_000
    events = told(window.post(f"{PLACE}/pull", {"model": part["id"]}))
    assert events[-1] == {"id": "hf:org/repo/a-Q8_0.gguf"}
    assert hub.downloads()[-1].headers["range"] == "bytes=1000000-"


def test_a_client_that_leaves_ends_its_download(window: Address, hub: HubServer) -> None:
    hub.fail("slow", path="/plain/*", seconds=0.05)
    hub.fail("slow", path="/blob/*", seconds=0.05)
    link = http.client.HTTPConnection("127.0.0.1", window.port, timeout=30)
    link.request("POST", f"{PLACE}/pull", json.dumps({"model": "hf:org/repo"}))
    answer = link.getresponse()
    assert b"download" in answer.readline()
    link.close()
    answer.close()
    until(lambda: any(model["state"] == "part" for model in listed(window).values()))
    (part,) = (model for model in listed(window).values() if model["state"] == "part")

    def removed() -> bool:
        return window.post(f"{PLACE}/remove", {"model": part["id"]}).status == 200

    until(removed)  # as long as it is being fetched, it is not removed


def test_a_file_is_taken_and_what_is_no_model_is_refused(window: Address) -> None:
    """It is refused by its beginning, before gigabytes of it have come."""
    place = f"{PLACE}/files"
    taken = window.ask("PUT", f"{place}/my%20model.gguf", real("cccc"))
    assert taken.status == 200
    path = Path(taken.json["id"])
    assert path.name == "my_model.gguf"
    assert path.read_bytes() == real("cccc")
    assert listed(window)[str(path)]["state"] == "here"
    assert told(window.post(f"{PLACE}/use", {"model": str(path)}))[-1] == {"id": str(path)}
    told(window.post(f"{PLACE}/use", {"model": "demo"}))
    for data, why in (
        (b"<!doctype html>" + b" " * 600, "this is a web page"),
        (b"nothing" * 200, "this is a text file"),
        (b"\1\2\3\xff" * 200, "this is no GGUF file"),
        (real("dddd")[:1000], "GGUF"),
    ):
        refused = window.ask("PUT", f"{place}/x.gguf", data)
        assert refused.status == 400
        assert why in refused.error["message"]
    assert set(listed(window)) == {"demo", str(path)}
    assert window.post(f"{PLACE}/remove", {"model": str(path)}).status == 200
    assert not path.parent.exists()


def test_a_model_that_goes_while_the_list_is_made_hides_no_other(
    window: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(window.ask("PUT", f"{PLACE}/files/gone.gguf", real("gone")).json["id"])

    def kept() -> list[KeptModel]:
        found = kept_models()
        path.unlink()  # as another window does it
        return found

    monkeypatch.setattr(library, "kept_models", kept)
    models = listed(window)
    assert models["demo"]["state"] == "loaded"
    assert "no such file" in models[str(path)]["problem"]


def test_a_path_is_used_where_it_is(window: Address, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "mine.gguf"
    path.parent.mkdir()
    path.write_bytes(real("eeee"))
    seen = window.post(f"{PLACE}/look", {"model": str(path)}).json
    assert (seen["state"], seen["id"]) == ("here", str(path))
    model = listed(window)[str(path)]
    assert (model["state"], model["place"], model["stays"]) == ("here", "path", True)
    assert told(window.post(f"{PLACE}/use", {"model": str(path)}))[-1] == {"id": str(path)}
    refused = window.post(f"{PLACE}/look", {"model": str(tmp_path / "no.gguf")})
    assert refused.status == 400
    assert "no such file" in refused.error["message"]


def test_the_model_in_use_stays_if_another_cannot_be_loaded(
    window: Address, tmp_path: Path
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(real("ffff")[:100_000])
    events = told(window.post(f"{PLACE}/use", {"model": str(path)}))
    assert str(path) in events[-1]["error"]["message"]
    answer = window.openai().responses.create(model="demo", input="Hello!", max_output_tokens=4)
    assert answer.output_text


def test_nothing_is_told_of_a_model_that_is_being_unloaded(llama_backend: str) -> None:
    with LlamaBridge("demo", backend=llama_backend) as llama:
        models = CurrentModel(Served("demo", AsyncLlamaBridge.of(llama)), lambda *_: {})
        with serving(application(models, ServerSettings(), None)) as window:
            llama.close()
            reply = window.ask("GET", "/app/about")
    assert (reply.status, reply.json) == (200, None)


def test_it_says_what_the_model_can_do_and_why_not_the_rest(window: Address) -> None:
    about = window.ask("GET", "/app/about").json
    flags = {flag["name"]: flag for flag in about["flags"]}
    assert about["id"] == "demo"
    assert about["context"] == 1024
    assert flags["generate"]["has"]
    assert "made to generate" in flags["embeddings"]["why"]
    told(window.post(f"{PLACE}/use", {"model": "demo", "untrusted": True}))
    about = window.ask("GET", "/app/about").json
    flags = {flag["name"]: flag for flag in about["flags"]}
    assert about["untrusted"]
    assert flags["sandbox"]["has"]
    assert not flags["session_persistence"]["has"]


def test_only_a_window_may_do_that(hub: HubServer, tmp_path: Path) -> None:
    from llama_bridge.serve import app
    from llama_bridge.testing import FakeLlama

    settings = ServerSettings(api_keys=("k",))
    with FakeLlama() as llama, serving(app(llama, name="fake", settings=settings)) as address:
        for method, path in (("GET", PLACE), ("POST", f"{PLACE}/use"), ("PUT", f"{PLACE}/files/x")):
            assert address.ask(method, path, b"", {"Authorization": "Bearer k"}).status == 404
        assert address.ask("GET", PLACE).status == 401
