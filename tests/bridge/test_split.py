"""Split models on every backend: the same tokens as from one file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llama_bridge import (
    InvalidModel,
    LlamaBridge,
    ModelNotFound,
    Progress,
    SessionMismatch,
)
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeLlama
from tests.gguf_editing import Gguf
from tests.making import MakeModel
from tools.split_model import split_model

DEMO = open_model("demo").path
HELLO = "Hello! My name is Zorvane."


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The demo model in three files."""
    return split_model(DEMO, tmp_path / "chat", 3)


def said(model: str | Path, backend: str) -> tuple[str, tuple[int, ...]]:
    """What a model says, greedily."""
    with LlamaBridge(model, backend=backend, n_ctx=256) as llama:
        answer = llama.generate(HELLO, temperature=0, max_tokens=24)
        return answer.text, tuple(llama.session().tokens)


def test_any_part_or_the_base_name_gives_the_tokens_of_one_file(
    parts: list[Path], llama_backend: str
) -> None:
    whole = said("demo", llama_backend)
    assert said(parts[0], llama_backend) == whole
    assert said(parts[2], llama_backend) == whole
    assert said(parts[0].with_name("chat"), llama_backend) == whole


@pytest.mark.parametrize("empty_first", [False, True])
def test_more_parts_than_a_guest_may_otherwise_have_open(
    tmp_path: Path, llama_backend: str, empty_first: bool
) -> None:
    parts = split_model(DEMO, tmp_path / "chat", 20, empty_first=empty_first)
    assert said(parts[7], llama_backend) == said("demo", llama_backend)


@pytest.mark.parametrize("architecture", ["qwen2", "lfm2"])
def test_models_of_other_kinds_give_the_tokens_of_one_file(
    make_model: MakeModel, tmp_path: Path, architecture: str, llama_backend: str
) -> None:
    model = make_model(architecture=architecture, n_embd=256, n_ff=256, quantization="q4_k")
    parts = split_model(model, tmp_path / "other", 2)
    assert said(parts[1], llama_backend) == said(model, llama_backend)


def test_names_in_capitals_and_links_load(parts: list[Path], llama_backend: str) -> None:
    folder = parts[0].parent / "links"
    folder.mkdir()
    if sys.platform == "emscripten":
        pytest.skip("a page has no links")
    for i, part in enumerate(parts, 1):
        (folder / f"CHAT-0000{i}-OF-00003.GGUF").symlink_to(part)
    assert said(folder / "CHAT-00002-OF-00003.GGUF", llama_backend) == said("demo", llama_backend)


def test_loading_tells_how_much_of_all_parts_is_read(parts: list[Path], llama_backend: str) -> None:
    heard: list[Progress] = []
    with LlamaBridge(parts[1], backend=llama_backend, n_ctx=256, on_progress=heard.append):
        steps = [step for step in heard if step.stage == "load"]
    total = sum(path.stat().st_size for path in parts)
    assert {step.total for step in steps} == {total}
    assert steps[-1].done == total
    assert any(parts[0].stat().st_size < step.done < total for step in steps)


def test_a_model_with_a_missing_or_foreign_part_leaves_the_loaded_one_in_use(
    parts: list[Path], llama_backend: str
) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_ctx=256) as llama:
        before = llama.generate(HELLO, temperature=0, max_tokens=8)
        file = Gguf(parts[1])
        file.set("split.count", 2)
        file.write(parts[1])
        with pytest.raises(InvalidModel, match=r"chat-00002-of-00003\.gguf is not part 2"):
            llama.load_model(parts[0])
        parts[1].unlink()
        with pytest.raises(ModelNotFound, match="part 2 of 3 is missing"):
            llama.load_model(parts[2], unload_first=True)
        assert llama.generate(HELLO, temperature=0, max_tokens=8).text == before.text


@pytest.mark.requires_capability("session_persistence")
def test_a_session_belongs_to_all_parts(parts: list[Path], llama_backend: str) -> None:
    file = parts[0].with_name("work.session")
    with LlamaBridge(parts[0], backend=llama_backend, n_ctx=256) as llama:
        llama.generate(HELLO, temperature=0, max_tokens=8)
        llama.session_save(file)
    with LlamaBridge(parts[2], backend=llama_backend, n_ctx=256) as llama:
        llama.session_load(file)
        assert llama.generate_continue("And now?", temperature=0, max_tokens=4).usage.cached_tokens
    data = bytearray(parts[2].read_bytes())
    data[-64:] = bytes(64)
    parts[2].write_bytes(data)
    with (
        LlamaBridge(parts[0], backend=llama_backend, n_ctx=256) as llama,
        pytest.raises(SessionMismatch, match="weights"),
    ):
        llama.session_load(file)


def test_the_fake_takes_a_split_model_and_names_a_missing_part(parts: list[Path]) -> None:
    with FakeLlama("well", model=parts[1]) as llama:
        assert llama.generate("one").text == "well"
        os.remove(parts[0])
        with pytest.raises(ModelNotFound, match="part 1 of 3"):
            llama.load_model(parts[1])
