"""Compiled code between runs: found again, never trusted when damaged, never needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llama_bridge_wasm.hosts.wasmtime import module
from llama_bridge_wasm.hosts.wasmtime.compiled_cache import CompiledCache

# (module (import "env" "memory" (memory 1 2 shared)) (func (export "answer") (result i32) i32.const 42))
TINY = bytes.fromhex(
    "0061736d010000000105016000017f021001"
    "03656e76066d656d6f727902030102"
    "03020100070a0106616e7377657200000a06010400412a0b"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="folder modes are POSIX's")


@pytest.fixture(autouse=True)
def _forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_modules", {})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.wasm"
    path.write_bytes(TINY)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def exports(path: Path, folder: Path) -> list[str]:
    """A new process would do this: nothing remembered but the files."""
    module._modules.clear()
    compiled = module.compiled_module(path, CompiledCache(folder))
    return [e.name for e in compiled.module.exports if e.name]


def test_compiling_is_told_before_it_begins(
    tiny: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "llama_bridge.wasm.compile"):
        exports(tiny, folder)
        exports(tiny, folder)
    assert [m.split()[0] for m in caplog.messages] == ["compiling", "compiled"]


def test_the_first_use_compiles_and_the_second_finds_it(
    tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exports(tiny, folder) == ["answer"]
    assert len(list(folder.glob("*.cwasm"))) == 1
    monkeypatch.setattr("wasmtime.Module.__init__", _must_not_run)
    assert exports(tiny, folder) == ["answer"]


def _must_not_run(*_: object) -> None:
    raise AssertionError("compiled although the cache holds it")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:50] + b"\xff" + b[51:], lambda b: b""]
)
def test_damaged_files_are_removed_and_compiled_again(
    tiny: Path, folder: Path, damage: object
) -> None:
    assert callable(damage)
    exports(tiny, folder)
    (file,) = folder.glob("*.cwasm")
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert exports(tiny, folder) == ["answer"]
    (again,) = folder.glob("*.cwasm")
    assert again.read_bytes()[:200] == good[:200]


def test_a_well_named_file_that_wasmtime_refuses_is_replaced(tiny: Path, folder: Path) -> None:
    exports(tiny, folder)
    (file,) = folder.glob("*.cwasm")
    key = file.stem.split("-")[0]
    file.unlink()
    CompiledCache(folder).store(key, b"not machine code of any kind")
    assert exports(tiny, folder) == ["answer"]
    assert b"not machine code" not in b"".join(f.read_bytes() for f in folder.glob("*.cwasm"))


@posix
def test_a_folder_that_others_can_open_is_not_used(tiny: Path, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    assert exports(tiny, folder) == ["answer"]
    assert not list(folder.iterdir())


@posix
def test_a_link_in_place_of_the_folder_is_not_followed(
    tiny: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert exports(tiny, folder) == ["answer"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_unusable_folder_only_costs_the_compilation(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert exports(tiny, tmp_path / "file" / "cache") == ["answer"]


@posix
def test_new_folders_are_private_and_old_code_is_pruned(folder: Path) -> None:
    cache = CompiledCache(folder)
    for i in range(8):
        cache.store(f"key{i}", os.urandom(64))
        newest = next(folder.glob(f"key{i}-*"))
        os.utime(newest, (i, i))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 4
    assert cache.find("key7") is not None
    assert cache.find("key0") is None
