"""Weights are checked once for each file, however often it is loaded, and again when it has changed."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from llama_bridge import InvalidModel, LlamaBridge
from llama_bridge.models.source import open_model
from tests.making import MakeModel
from tools.split_model import split_model

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

from llama_bridge_native import finite_weights


@pytest.fixture
def model(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_stays: None
) -> Path:
    """A model that counts as large, in a home where nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(finite_weights, "_LARGE", 0)
    path = tmp_path / "m.gguf"
    shutil.copy(make_model(), path)
    return path


@pytest.fixture
def compiled_stays(tmp_path: Path) -> None:
    from tests.hub.conftest import keep_compiled

    keep_compiled(tmp_path / "caches")


def load(path: Path) -> None:
    LlamaBridge(path, backend="native", n_ctx=64, n_threads=1).close()


def damage(path: Path, *, unseen: bool) -> None:
    """Make a norm's last weight infinite; ``unseen``, so that the file looks the same from outside."""
    part, norm = next(
        (part, tensor)
        for part in open_model(path).files
        for tensor in part.header.tensors
        if tensor.name == "output_norm.weight"
    )
    before = part.path.stat()
    with part.path.open("r+b") as file:
        file.seek(part.header.data_offset + norm.offset + (norm.n_bytes or 0) - 4)
        file.write(struct.pack("<f", float("inf")))
    later = 0 if unseen else 1_000_000
    os.utime(part.path, ns=(before.st_atime_ns, before.st_mtime_ns + later))


def test_a_file_that_was_checked_is_not_checked_again(model: Path, tmp_path: Path) -> None:
    load(model)
    assert len([*(tmp_path / "caches/llama-bridge/finite").iterdir()]) == 1
    damage(model, unseen=True)
    load(model)  # nobody looked


def test_a_file_that_has_changed_is_checked_again(model: Path) -> None:
    load(model)
    damage(model, unseen=False)
    for _ in range(2):
        with pytest.raises(InvalidModel, match=r"output_norm\.weight holds infinity"):
            load(model)


def test_another_file_in_its_place_is_checked(model: Path, tmp_path: Path) -> None:
    load(model)
    other = tmp_path / "other.gguf"
    shutil.copy(model, other)
    damage(other, unseen=True)
    shutil.copystat(model, other)
    other.replace(model)
    with pytest.raises(InvalidModel, match="holds infinity"):
        load(model)


def test_a_load_that_was_stopped_is_no_check(model: Path, tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LlamaBridge(model, backend="native", on_progress=stop)
    assert not (tmp_path / "caches/llama-bridge/finite").exists()


def test_every_part_of_a_split_model_is_remembered(model: Path, tmp_path: Path) -> None:
    first, second = split_model(model, tmp_path / "part", 2)
    load(first)
    assert len([*(tmp_path / "caches/llama-bridge/finite").iterdir()]) == 2
    damage(first, unseen=False)
    with pytest.raises(InvalidModel, match="holds infinity"):
        load(second)


def test_without_a_folder_to_remember_in_it_is_checked_each_time(
    model: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "caches", ignore_errors=True)
    (tmp_path / "caches").write_text("a file")
    load(model)
    damage(model, unseen=True)
    with pytest.raises(InvalidModel, match="holds infinity"):
        load(model)
