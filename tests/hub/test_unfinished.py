"""Downloads that broke off: they are listed, go on with the next pull, and can be removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from llama_bridge.errors import DownloadError, ModelError, ModelNotFound
from llama_bridge.files.locking import try_lock
from llama_bridge.hub import transfer
from llama_bridge.hub.cache import hub_cache
from llama_bridge.hub.find import find_model
from llama_bridge.hub.removing import models_named, remove_model
from llama_bridge.hub.shelf import kept_models
from llama_bridge.hub.unfinished import unfinished_models
from llama_bridge.testing.hub import HubServer
from llama_bridge.user_cache import user_cache

from .conftest import files_in, real

NAMES = ("hf:org/repo", "an address")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, hub: HubServer) -> str:
    """A model of which one million bytes have arrived."""
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    name = str(request.param)
    if name == "an address":
        name = hub.address("org/repo", "x-Q4_0.gguf")
    for path in ("/plain/*", "/blob/*"):
        hub.fail("cut", path=path, after=1_000_000, times=transfer.TRIES + 2)
        hub.fail("no_ranges", path=path, times=transfer.TRIES + 1)
    with pytest.raises(DownloadError, match=r"1.0 MB have arrived"):
        find_model(name)
    hub.faults.clear()
    return name


def folders() -> list[str]:
    """The files of models, and what is noted of them."""
    cache = user_cache()
    assert cache is not None
    found = [*files_in(hub_cache()), *files_in(cache / "downloads")]
    return [each for each in found if not each.endswith("lock")]


def test_it_is_listed_by_a_name_that_goes_on_with_it(name: str, hub: HubServer) -> None:
    assert kept_models() == []
    (model,) = unfinished_models()
    assert (model.name, model.size) == (name, 1_000_000)
    assert "pull goes on with it" in model.problem
    assert Path(str(find_model(model.name))).read_bytes() == real("mark")
    assert hub.downloads()[-1].headers["range"] == "bytes=1000000-"
    assert unfinished_models() == []


@pytest.mark.parametrize("kind", NAMES)
def test_of_a_file_that_never_began_nothing_is_listed(hub: HubServer, kind: str) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    name = kind if kind.startswith("hf:") else hub.address("org/repo", "no.gguf")
    hub.fail("status", path="/blob/*", status=403, times=None)
    with pytest.raises(ModelError):
        find_model(name)
    assert unfinished_models() == []


def test_it_is_removed_and_nothing_stays(name: str) -> None:
    (model,) = models_named(name)
    assert remove_model(model) == 1_000_000
    assert folders() == []
    with pytest.raises(ModelNotFound):
        models_named(name)


def test_what_somebody_fetches_now_stays(name: str) -> None:
    (model,) = models_named(name)
    (lock,) = (path for top in (hub_cache(), model.path.parent) for path in top.rglob("*lock"))
    handle = os.open(lock, os.O_RDWR)
    try:
        assert try_lock(handle)
        with pytest.raises(ModelError, match="it is being fetched: stop that first"):
            remove_model(model)
        assert model.path.exists()
    finally:
        os.close(handle)
    assert remove_model(model) == 1_000_000


def test_a_whole_model_beside_it_stays(hub: HubServer) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark"), "x-Q8_0.gguf": real("next")})
    path = Path(str(find_model("hf:org/repo:Q8_0")))
    part = path.resolve().with_name("1" * 64 + ".incomplete")
    shutil.copy(path, part)
    (model,) = unfinished_models()
    assert model.name == "hf:org/repo"
    assert {each.name for each in models_named("hf:org/repo")} == {
        "hf:org/repo",
        "hf:org/repo/x-Q8_0.gguf",
    }
    assert [each.name for each in models_named("hf:org/repo:Q8_0")] == ["hf:org/repo/x-Q8_0.gguf"]
    assert models_named(str(part)) == [model]
    remove_model(model)
    assert not part.exists()
    assert path.read_bytes() == real("next")


def test_huggingface_hubs_own_are_told_apart_and_stay_while_it_fetches(hub: HubServer) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    path = Path(str(find_model("hf:org/repo")))
    part = path.resolve().with_name(f"{'1' * 64}.0a1b2c3d.incomplete")
    part.write_bytes(b"GGUF")
    (model,) = unfinished_models()
    assert "of huggingface_hub" in model.problem
    assert "goes on" not in model.problem
    lock = hub_cache() / ".locks" / "models--org--repo" / f"{'1' * 64}.lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        assert try_lock(handle)
        with pytest.raises(ModelError, match="it is being fetched"):
            remove_model(model)
    finally:
        os.close(handle)
    assert remove_model(model) == 4
    assert path.exists()


def test_what_is_no_file_is_no_download(hub: HubServer, tmp_path: Path) -> None:
    blobs = hub_cache() / "models--org--repo" / "blobs"
    (blobs / f"{'1' * 64}.incomplete").mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (blobs / f"{'2' * 64}.incomplete").symlink_to(tmp_path / "mine")
    if hasattr(os, "mkfifo"):
        os.mkfifo(blobs / f"{'3' * 64}.incomplete")
    assert unfinished_models() == []


def test_removing_a_model_leaves_what_is_fetched_of_its_repository(hub: HubServer) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark"), "x-Q8_0.gguf": real("next")})
    find_model("hf:org/repo:Q8_0")
    hub.fail("cut", path="/blob/*", after=1_000_000, times=transfer.TRIES + 2)
    with pytest.raises(DownloadError):
        find_model("hf:org/repo:Q4_0")
    hub.faults.clear()
    (whole,) = models_named("hf:org/repo:Q8_0")
    remove_model(whole)
    assert kept_models() == []
    (part,) = unfinished_models()
    hub.asked.clear()
    assert Path(str(find_model("hf:org/repo:Q4_0"))).read_bytes() == real("mark")
    assert hub.downloads()[0].headers["range"] == f"bytes={part.size}-"


def test_a_model_from_an_address_stays_while_a_newer_one_is_fetched(hub: HubServer) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    path = Path(str(find_model(hub.address("org/repo", "x-Q4_0.gguf"))))
    (model,) = kept_models()
    handle = os.open(path.with_name("lock"), os.O_RDWR)
    try:
        assert try_lock(handle)
        with pytest.raises(ModelError, match="it is being fetched"):
            remove_model(model)
        assert path.read_bytes() == real("mark")
    finally:
        os.close(handle)
    remove_model(model)
    assert folders() == []


@pytest.mark.parametrize(
    "folder", ["models--org--name--backup", "models--a b--c", "models--..--x", "models--org--x.."]
)
def test_a_folder_that_is_no_repository_is_in_nobodys_way(hub: HubServer, folder: str) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    path = Path(str(find_model("hf:org/repo")))
    other = hub_cache() / folder
    shutil.copytree(path.parents[2], other, symlinks=True)
    (other / "blobs" / f"{'1' * 64}.incomplete").write_bytes(b"GGUF")
    names = {model.name for model in kept_models()}
    odd = other / "snapshots" / path.parent.name / path.name
    assert names == {"hf:org/repo/x-Q4_0.gguf", str(odd)}
    (model,) = models_named("hf:org/repo")
    remove_model(model)
    assert odd.read_bytes() == real("mark")
    for each in (*models_named(str(odd)), *unfinished_models()):
        remove_model(each)
    assert not other.exists()


@pytest.mark.parametrize("about", ["[" * 100_000, '{"url": ["x"]}', '{"url": null}', "\x00", "[1]"])
def test_notes_that_make_no_sense_hide_no_model(name: str, about: str) -> None:
    cache = user_cache()
    assert cache is not None
    folder = cache / "downloads" / "odd"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(about)
    (folder / "x.gguf.incomplete").write_bytes(b"GGUF")
    (folder / "y.gguf").write_bytes(real("odd."))
    found = {model.name for model in (*kept_models(), *unfinished_models())}
    assert found == {name, str(folder / "x.gguf.incomplete"), str(folder / "y.gguf")}


def test_a_model_of_the_hub_stays_while_somebody_has_its_lock(hub: HubServer) -> None:
    hub.add("org/repo", {"x-Q4_0.gguf": real("mark")})
    path = Path(str(find_model("hf:org/repo")))
    (model,) = kept_models()
    (lock,) = hub_cache().rglob("*.lock")
    handle = os.open(lock, os.O_RDWR)
    try:
        assert try_lock(handle)
        with pytest.raises(ModelError, match="it is being fetched"):
            remove_model(model)
        assert path.read_bytes() == real("mark")
    finally:
        os.close(handle)
    remove_model(model)
    assert folders() == []
