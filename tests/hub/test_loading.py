"""LlamaBridge takes names: the progress it tells, and the model that stays when a name cannot be resolved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    BridgeError,
    DigestMismatch,
    InvalidInput,
    LlamaBridge,
    ModelNotFound,
    Progress,
    RateLimited,
)
from llama_bridge.testing import FakeLlama
from llama_bridge.testing.hub import HubServer

from .conftest import Heard, real

NAME = "hf:org/repo"


@pytest.fixture
def model(hub: HubServer) -> bytes:
    data = real("mark")
    hub.add("org/repo", {"a-Q4_K_M.gguf": data})
    return data


@pytest.mark.not_remote("a server has models of its own")
def test_a_model_loads_by_its_name_and_the_download_comes_before_the_load(
    hub: HubServer, model: bytes, heard: Heard, llama_backend: str
) -> None:
    with LlamaBridge(NAME, backend=llama_backend, on_progress=heard) as llama:
        stages = [stage for stage in heard.stages() if stage != "compile"]
        assert stages == ["download", "load"]
        assert llama.model.name.endswith("mark")
        assert llama.generate("Hello", temperature=0, max_tokens=4).text
    heard.clear()
    with LlamaBridge("hf.co/org/repo:q4_k_m", backend=llama_backend, on_progress=heard) as llama:
        assert [stage for stage in heard.stages() if stage != "compile"] == ["load"]
        assert llama.model.name.endswith("mark")


def corrupt(hub: HubServer) -> None:
    hub.fail("corrupt", path="/blob/*", after=2_000_000)


def limited(hub: HubServer) -> None:
    hub.fail("status", path="/api/*", status=429)


@pytest.mark.parametrize("unload_first", [False, True])
@pytest.mark.parametrize(
    ("name", "fault", "error"),
    [
        ("hf:org/repo:Q2_K", None, ModelNotFound),
        ("hf:org/repo/x.bin", None, InvalidInput),
        ("hf:org/split", None, ModelNotFound),
        ("ollama:nothing", None, ModelNotFound),
        (NAME, corrupt, DigestMismatch),
        (NAME, limited, RateLimited),
    ],
)
def test_the_old_model_stays_when_a_name_cannot_be_resolved(
    hub: HubServer,
    model: bytes,
    name: str,
    fault: Callable[[HubServer], None] | None,
    error: type[BridgeError],
    unload_first: bool,
) -> None:
    hub.add("org/split", {"a-Q4_K_M-00001-of-00002.gguf": b"1"})
    if fault is not None:
        fault(hub)
    with FakeLlama("well", model="demo") as llama:
        llama.generate("one")
        with pytest.raises(error):
            llama.load_model(name, unload_first=unload_first)
        assert llama.model.name == "llama-bridge demo"
        assert llama.generate_continue("two").text == "well"
        assert len(llama.session().messages) == 4


def test_a_model_that_replaces_another_is_fetched_before_that_is_freed(
    hub: HubServer, model: bytes
) -> None:
    with FakeLlama("well", model="demo") as llama:
        seen: set[str] = set()

        def look(step: Progress) -> None:
            if step.stage == "download":
                seen.add(llama.model.name)

        llama.load_model(NAME, unload_first=True, on_progress=look)
        assert seen == {"llama-bridge demo"}
        assert llama.model.name.endswith("mark")


def test_an_interrupt_while_it_is_fetched_keeps_the_old_model_and_what_has_arrived(
    hub: HubServer, model: bytes
) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.06, times=None)

    def press_ctrl_c(step: Progress) -> None:
        if step.stage == "download" and step.done > 500_000:
            raise KeyboardInterrupt

    with FakeLlama("well", model="demo") as llama:
        with pytest.raises(KeyboardInterrupt):
            llama.load_model(NAME, on_progress=press_ctrl_c)
        assert llama.model.name == "llama-bridge demo"
        hub.faults.clear()
        llama.load_model(NAME)
        assert llama.model.name.endswith("mark")
    assert hub.downloads()[-1].headers["range"]


def test_it_loads_by_name_in_a_task(hub: HubServer, model: bytes, heard: Heard) -> None:
    async def main() -> str:
        async with AsyncLlamaBridge(NAME, on_progress=heard) as llama:
            with pytest.raises(ModelNotFound, match="a-Q4_K_M"):
                await llama.load_model("hf:org/repo:Q2_K")
            return llama.model.name

    assert asyncio.run(main()).endswith("mark")
    assert heard.stages()[0] == "download"


def test_a_path_object_is_never_a_name(hub: HubServer) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        LlamaBridge(Path("hf:org/repo"))
    assert hub.asked == []


def test_a_name_without_its_prefix_is_explained(hub: HubServer) -> None:
    with pytest.raises(ModelNotFound, match="a model on the hub is called hf:org/repo"):
        LlamaBridge("org/repo")
    assert hub.asked == []


@pytest.mark.parametrize("odd", [3, b"hf:org/repo", "", "a\0b", "hf:org/\ud800", ["hf:org/repo"]])
def test_odd_names_are_refused_as_arguments(hub: HubServer, odd: object) -> None:
    with pytest.raises((InvalidInput, ModelNotFound)):
        LlamaBridge(odd)  # type: ignore[arg-type]
    assert hub.asked == []


def test_a_task_that_is_cancelled_ends_its_download(hub: HubServer, model: bytes) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.2, times=None)

    async def main() -> float:
        llama = AsyncLlamaBridge("demo")
        await llama
        loading = asyncio.create_task(llama.load_model(NAME))
        while not hub.downloads():
            await asyncio.sleep(0.01)
        start = time.monotonic()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        took = time.monotonic() - start
        assert llama.model.name == "llama-bridge demo"
        await llama.close()
        return took

    assert asyncio.run(main()) < 2


def test_an_adapter_has_a_name_too(hub: HubServer, model: bytes, tmp_path: Path) -> None:
    from llama_bridge.models.source import open_model
    from llama_bridge.testing.adapters import write_adapter

    adapter = write_adapter(tmp_path / "adapter.gguf", open_model("demo"))
    hub.add("org/style", {"style-F32.gguf": adapter.read_bytes()})
    with LlamaBridge(NAME, adapters=[("hf:org/style", 0.5)]) as llama:
        (found,) = llama.info.adapters
        assert found.scale == 0.5
        llama.set_adapters([])
        llama.set_adapters(["hf:org/style/style-F32.gguf"])
        assert llama.info.adapters[0].scale == 1
        with pytest.raises(ModelNotFound):
            llama.set_adapters(["hf:org/style:Q2_K"])
        assert llama.info.adapters[0].scale == 1
