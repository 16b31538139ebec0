"""Compiled code between runs: found again, never trusted when damaged, never needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import wasmtime

from llama_bridge.errors import BackendUnavailable
from llama_bridge.models.source import open_model
from llama_bridge.on_wasmtime.compiled_cache import CompiledCache, default_folder
from llama_bridge.params import ModelParams
from llama_bridge.progress import Progress
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.hosts.wasmtime import module

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


def test_compiling_is_progress_once_and_a_cached_module_is_none(tiny: Path, folder: Path) -> None:
    steps: list[Progress] = []
    for _ in range(3):
        module._modules.clear()
        for _ in range(2):
            module.compiled_module(tiny, CompiledCache(folder), on_progress=steps.append)
    size = len(TINY)
    assert steps == [Progress("compile", done, size, "bytes") for done in (0, size)]
    (file,) = folder.glob("*.cwasm")
    file.unlink()  # wasmtime has it in its memory: changed there, it would end this process
    file.write_bytes(b"damaged")
    module._modules.clear()
    module.compiled_module(tiny, CompiledCache(folder), on_progress=steps.append)
    assert len(steps) == 4, "it was compiled again"


def test_a_code_that_wasmtime_refuses_is_never_done(tmp_path: Path, folder: Path) -> None:
    broken = tmp_path / "broken.wasm"
    broken.write_bytes(TINY[:-1] + b"\xff")
    steps: list[Progress] = []
    with pytest.raises(BackendUnavailable, match="wasmtime refuses"):
        module.compiled_module(broken, CompiledCache(folder), on_progress=steps.append)
    assert [step.done for step in steps] == [0]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("kind", [KeyError, wasmtime.WasmtimeError, BackendUnavailable])
def test_what_on_progress_raises_comes_out_as_it_is_and_the_next_try_works(
    tiny: Path, folder: Path, at: int, kind: type[Exception]
) -> None:
    own = kind("wasm", "enough") if kind is BackendUnavailable else kind("enough")

    def end(step: Progress) -> None:
        if step.done == at * step.total:
            raise own

    with pytest.raises(kind) as caught:
        module.compiled_module(tiny, CompiledCache(folder), on_progress=end)
    assert caught.value is own
    steps: list[Progress] = []
    module.compiled_module(tiny, CompiledCache(folder), on_progress=steps.append)
    assert len(steps) == (0 if at else 2), "what was finished is not done again"


def test_a_load_from_on_progress_does_not_wait_for_itself(tiny: Path, folder: Path) -> None:
    other = tiny.with_name("other.wasm")
    other.write_bytes(TINY[:-2] + b"\x2b\x0b")
    found: list[module.Compiled] = []

    def load_another(step: Progress) -> None:
        found.append(module.compiled_module(other, CompiledCache(folder)))

    module.compiled_module(tiny, CompiledCache(folder), on_progress=load_another)
    assert len(found) == 2


def test_a_model_that_is_loaded_for_the_first_time_tells_of_both_stages(
    wasm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stages: list[list[str]] = []
    for _ in range(2):
        module._modules.clear()
        steps: list[Progress] = []
        BACKEND.load(open_model("demo"), ModelParams(n_ctx=256), steps.append).close()
        compiling = [step for step in steps if step.stage == "compile"]
        assert all(step.total == wasm.stat().st_size for step in compiling)
        stages.append([step.stage for step in steps])
    assert stages[0][:3] == ["compile", "compile", "load"]
    assert stages[0][2:] == stages[1], "one after the other; the second time only one"
    assert set(stages[1]) == {"load"}


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


def test_the_cache_is_where_this_system_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "llama-bridge" / "compiled"
    for unset in ("", "relative"):  # the specification has it that a relative one is none
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        monkeypatch.setattr(
            "platformdirs.user_cache_path", lambda name, **_: tmp_path / "of" / name
        )
        assert default_folder() == tmp_path / "of" / "llama-bridge" / "compiled"


@pytest.mark.parametrize(
    "answer", [RuntimeError("no home"), OSError("no home"), Path("~/.cache/x")]
)
def test_a_user_without_a_home_only_pays_for_the_compilation(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception | Path
) -> None:
    def ask(*_: object, **__: object) -> Path:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("platformdirs.user_cache_path", ask)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() is None
    compiled = module.compiled_module(tiny)
    assert [e.name for e in compiled.module.exports] == ["answer"]


def test_an_unusable_folder_only_costs_the_compilation(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert exports(tiny, tmp_path / "file" / "cache") == ["answer"]


@posix
def test_new_folders_are_private_and_old_code_is_pruned(folder: Path) -> None:
    cache = CompiledCache(folder)
    for i in range(12):
        cache.store(f"key{i}", os.urandom(64))
        newest = next(folder.glob(f"key{i}-*"))
        os.utime(newest, (i, i))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 8
    assert cache.find("key11") is not None
    assert cache.find("key3") is None
