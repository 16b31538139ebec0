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
