"""A split model in the sandbox: its parts, and no other file; none of them is copied on the way."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import ModelParams, OutOfMemory
from llama_bridge.models.source import ModelFile, open_model
from llama_bridge.system_memory import SystemMemory
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import MODEL_PATH, model_paths
from llama_bridge_wasm.engine.fit import check_fit
from llama_bridge_wasm.hosts.wasi import GuestFile
from tools.split_model import split_model

from .conftest import load, new_guest


@pytest.fixture
def model(tmp_path: Path, demo: ModelFile) -> ModelFile:
    """The demo model in three files."""
    return open_model(split_model(demo.path, tmp_path / "any name", 3)[1])


def test_a_model_in_one_file_has_one_name() -> None:
    assert model_paths(1) == [MODEL_PATH]
    assert model_paths(2) == ["/model-00001-of-00002.gguf", "/model-00002-of-00002.gguf"]


def test_a_model_whose_parts_do_not_fit_together_is_refused(model: ModelFile) -> None:
    whole = sum(part.header.file_size - part.header.data_offset for part in model.files)
    largest = max(part.header.file_size for part in model.files)
    limit = 17 * (1 << 20) + (whole + largest) // 2 + 150 * model.header.n_vocab
    with pytest.raises(OutOfMemory, match=f"weights of {whole / (1 << 20):.0f} MiB"):
        check_fit(model, ModelParams(n_ctx=256, memory_limit=limit), SystemMemory(None, None))


def test_the_guest_has_the_parts_and_no_other_file(wasm: Path, model: ModelFile) -> None:
    first, *more = (GuestFile.at(part.path) for part in model.files)
    first = GuestFile(first.open, first.size, first.path, None, tuple(more))
    guest = new_guest(wasm, first)
    try:
        assert load(guest, MODEL_PATH) < 0
        assert load(guest, model.path.name) < 0
        assert load(guest, "/model-00002-of-00003.gguf") < 0  # llama.cpp begins with the first
        assert load(guest, "/model-00001-of-00003.gguf") == 0
    finally:
        guest.close()


def test_every_part_is_read_into_the_guest_and_nowhere_else(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All reads of tensors go to the guest's memory: none makes bytes of its own."""
    if sys.platform == "emscripten":
        pytest.skip("a page reads files of Pyodide's file system through Python")

    class Watched(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("a copy")

        def readall(self) -> bytes:
            raise AssertionError("a copy")

    opened: list[str] = []

    def watched(self: ModelFile) -> Any:
        opened.append(self.path.name)
        return Watched(self.path, "r")

    for check in ("check_fit", "check_tokenizer"):  # they read the header
        monkeypatch.setattr(f"llama_bridge_wasm.backend.{check}", lambda *_: None)
    monkeypatch.setattr(ModelFile, "open", watched)
    engine = BACKEND.load(model, ModelParams(n_ctx=256))
    engine.close()
    assert {part.path.name for part in model.files} <= set(opened)
