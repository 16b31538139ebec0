"""All models on this disk: found in the folders of each program, listed with their facts, loaded by their names."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import DigestMismatch, DownloadError, InvalidInput, LlamaBridge, ModelNotFound
from llama_bridge.hub.cache import hub_cache
from llama_bridge.hub.find import find_model
from llama_bridge.hub.looking import look_at
from llama_bridge.hub.removing import models_named, remove_model
from llama_bridge.hub.shelf import KeptModel, kept_models
from llama_bridge.testing.hub import HubServer

from .conftest import files_in, real


def ollama(folder: Path, name: str, data: bytes) -> Path:
    """A model as Ollama keeps it: a manifest, and a blob."""
    digest = hashlib.sha256(data).hexdigest()
    blob = folder / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    manifest = folder / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    kind = "application/vnd.ollama.image."
    layers = [
        {"mediaType": kind + "license", "digest": "sha256:" + "0" * 64, "size": 1},
        {"mediaType": kind + "model", "digest": f"sha256:{digest}", "size": len(data)},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


@pytest.fixture
def home(hub: HubServer) -> Path:
    """An empty home."""
    folder = Path(os.environ["HOME"])
    folder.mkdir()
    return folder


def names() -> list[str]:
    return [model.name for model in kept_models()]


def test_an_empty_disk_has_no_models(home: Path) -> None:
    assert kept_models() == []
    with pytest.raises(ModelNotFound, match="It has none"):
        find_model("ollama:x")


def test_each_program_s_models_are_found_and_load_by_their_names(
    hub: HubServer, home: Path, tmp_path: Path
) -> None:
    hub.add("org/repo", {"a-Q8_0.gguf": real("aaaa"), "d/b-Q4_K_M.gguf": real("bbbb")})
    hub.add("org/repo", {"a-Q8_0.gguf": real("cccc")}, revision="dev")
    for name in ("hf:org/repo:Q8_0", "hf:org/repo", "hf:org/repo@dev"):
        find_model(name)
    find_model(hub.address("org/repo", "a-Q8_0.gguf"))
    ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", real("dddd"))
    ollama(home / ".ollama/models", "registry.ollama.ai/me/own/latest", real("eeee"))
    ollama(home / ".ollama/models", "hf.co/org/repo/Q8_0", real("ffff"))
    for path in (
        home / ".lmstudio/models/pub/repo/m.gguf",
        home / ".cache/lm-studio/models/pub/old/m.gguf",
        tmp_path / "caches/llama.cpp/org_repo_m.gguf",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(real("gggg"))
    dev = hub.repos["org/repo"].commits["dev"]
    found = kept_models()
    assert [(model.place, model.name) for model in found] == [
        ("hub", f"hf:org/repo/a-Q8_0.gguf@{dev}") if name == "dev" else (place, name)
        for place, name in [
            *sorted_hub(hub),
            ("address", hub.address("org/repo", "a-Q8_0.gguf")),
            ("llama.cpp", str(tmp_path / "caches/llama.cpp/org_repo_m.gguf")),
            ("ollama", "ollama:hf.co/org/repo:Q8_0"),
            ("ollama", "ollama:llama3.2:1b"),
            ("ollama", "ollama:me/own:latest"),
            ("lmstudio", "lmstudio:pub/repo/m.gguf"),
            ("lmstudio", "lmstudio:pub/old/m.gguf"),
        ]
    ]
    hub.close()
    for model in found:
        assert Path(str(find_model(model.name))) == model.path
        facts = (model.size, model.quantisation, model.architecture, model.n_ctx_train)
        assert facts == (len(real("aaaa")), "Q8_0", "llama", 1024)
    assert find_model("ollama:ME/own") == find_model("ollama:me/own:latest")


def sorted_hub(hub: HubServer) -> list[tuple[str, str]]:
    """The hub's models in the order of their commits."""
    repo = hub.repos["org/repo"]
    named = [
        (repo.commits["main"], "hf:org/repo/a-Q8_0.gguf"),
        (repo.commits["main"], "hf:org/repo/d/b-Q4_K_M.gguf"),
        (repo.commits["dev"], "dev"),
    ]
    return [("hub", name) for _, name in sorted(named)]


def test_what_ollama_s_blob_says_is_checked(home: Path) -> None:
    blob = ollama(home / ".ollama/models", "registry.ollama.ai/library/m/1b", real("aaaa"))
    blob.write_bytes(real("evil"))
    with pytest.raises(DigestMismatch, match="fetch it again with ollama"):
        find_model("ollama:m:1b")


def test_ollama_s_folder_can_be_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "there"))
    ollama(tmp_path / "there", "registry.ollama.ai/library/m/1b", real("aaaa"))
    assert names() == ["ollama:m:1b"]
    with pytest.raises(ModelNotFound, match="ollama:m:1b") as error:
        find_model("ollama:other")
    assert error.value.there == ("ollama:m:1b",)


def test_lm_studio_s_folder_can_be_elsewhere(home: Path, tmp_path: Path) -> None:
    settings = home / "lm/settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"downloadsFolder": str(tmp_path / "there")}))
    (home / ".lmstudio-home-pointer").write_text(str(home / "lm"))
    model = tmp_path / "there/pub/repo/m.gguf"
    model.parent.mkdir(parents=True)
    model.write_bytes(real("aaaa"))
    model.with_name("mmproj-m.gguf").write_bytes(b"x")
    assert names() == ["lmstudio:pub/repo/m.gguf"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"layers": 3}',
        '{"layers": [1]}',
        "[" * 100000,
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../../x"}]}',
    ],
    ids=len,
)
def test_strange_files_in_other_programs_folders_are_passed_over(home: Path, text: str) -> None:
    for path in (
        home / ".ollama/models/manifests/registry.ollama.ai/library/m/1b",
        home / ".lmstudio/settings.json",
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert kept_models() == []


def test_a_file_that_is_no_model_is_listed_with_its_problem(home: Path) -> None:
    path = home / ".lmstudio/models/a/b/broken.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    (broken,) = kept_models()
    assert "truncated" in broken.problem


def test_a_model_of_another_program_loads(home: Path) -> None:
    ollama(home / ".ollama/models", "registry.ollama.ai/library/m/1b", real("aaaa"))
    with LlamaBridge("ollama:m:1b") as llama:
        assert llama.model.architecture == "llama"


# removing


@pytest.fixture
def shelf(hub: HubServer, home: Path) -> HubServer:
    """Two files at main, one of them also at dev."""
    files = {"a-Q8_0.gguf": real("aaaa"), "b-Q4_K_M.gguf": real("bbbb")}
    hub.add("org/repo", files)
    hub.add("org/repo", files | {"README.md": b"dev"}, revision="dev")
    for name in ("hf:org/repo:Q8_0", "hf:org/repo", "hf:org/repo:Q8_0@dev"):
        find_model(name)
    return hub


def one(text: str) -> KeptModel:
    (model,) = models_named(text)
    return model


def test_a_file_goes_and_others_stay(shelf: HubServer) -> None:
    size = len(real("bbbb"))
    assert remove_model(one("hf:org/repo:Q4_K_M")) == size
    assert all("b-Q4" not in name for name in names())
    assert len(names()) == 2


def test_a_blob_stays_as_long_as_another_commit_has_it(shelf: HubServer) -> None:
    dev = shelf.repos["org/repo"].commits["dev"]
    assert remove_model(one(f"hf:org/repo/a-Q8_0.gguf@{dev}")) == 0
    shelf.close()
    assert find_model("hf:org/repo:Q8_0")
    assert remove_model(one("hf:org/repo:Q8_0")) == len(real("aaaa"))


def test_the_last_one_takes_the_repository_with_it(shelf: HubServer) -> None:
    found = models_named("hf:org/repo")
    assert len(found) == 3
    assert sum(map(remove_model, found)) == 2 * len(real("aaaa"))
    assert files_in(hub_cache()) == []
    with pytest.raises(ModelNotFound, match="no such model on this disk"):
        models_named("hf:org/repo")


def test_what_is_not_there_lists_what_is(shelf: HubServer) -> None:
    for name in ("hf:org/other", "hf:org/repo:Q2_K", "x.gguf", "https://example.org/x.gguf"):
        with pytest.raises(ModelNotFound, match="hf:org/repo/b-Q4_K_M") as error:
            models_named(name)
        assert len(error.value.there) == 3


def test_models_from_addresses_go_by_address_or_path(hub: HubServer, home: Path) -> None:
    hub.add("org/repo", {"a.gguf": real("aaaa")})
    url = hub.address("org/repo", "a.gguf")
    find_model(url)
    assert remove_model(one(url)) == len(real("aaaa"))
    find_model(f"{url}?secret")
    (kept,) = kept_models()
    assert remove_model(one(kept.name)) == len(real("aaaa"))
    assert kept_models() == []


def test_other_programs_keep_theirs(home: Path) -> None:
    blob = ollama(home / ".ollama/models", "registry.ollama.ai/library/m/1b", real("aaaa"))
    with pytest.raises(InvalidInput, match="remove it with ollama rm"):
        remove_model(one("ollama:m:1b"))
    assert blob.exists()


@pytest.mark.parametrize(
    "closed",
    [
        "home/.ollama/models",
        "home/.lmstudio/models/pub/repo",
        "huggingface/hub",
        "huggingface/hub/models--org--repo",
        "huggingface/hub/models--org--repo/snapshots",
        "caches/llama-bridge/downloads",
    ],
)
def test_a_folder_that_may_not_be_read_hides_no_other_models(
    hub: HubServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": real("aaaa")})
    address = hub.address("org/repo", "a-Q4_K_M.gguf")
    find_model("hf:org/repo")
    find_model(address)
    ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", real("dddd"))
    path = home / ".lmstudio/models/pub/repo/m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(real("bbbb"))
    there = names()
    assert len(there) == 4

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if os.fspath(path).startswith(str(tmp_path / closed) + os.sep):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return function(path, *args, **kwargs)

        return refuse

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refusing(os.stat))
        patched.setenv("HF_HUB_OFFLINE", "1")
        assert len(names()) == 3
        for name in there:
            with suppress(ModelNotFound, DownloadError):
                models_named(name)
                look_at(name)
        with suppress(ModelNotFound, DownloadError):
            find_model("hf:org/repo")
