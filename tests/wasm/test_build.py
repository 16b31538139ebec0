"""The build of llama.wasm and chat.wasm, as far as it can be tried without compiling for minutes."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .instructions import RELAXED, relaxed_instructions

ROOT = Path(__file__).resolve().parents[2]


def run(*args: str, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"XDG_CACHE_HOME": str(cache)} if cache else {})}
    command = [sys.executable, str(ROOT / "wasm" / "build.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_source_with_another_digest_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "llama_cpp_python.tar.gz"
    wrong.write_bytes(b"something else")
    output = tmp_path / "llama.wasm"
    result = run("--sdist", str(wrong), "--output", str(output), cache=tmp_path)
    assert result.returncode == 1
    assert "sha256 is" in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()
    assert (tmp_path / "llama-bridge" / "wasm" / "build.log").is_file()
    assert not list((tmp_path / "llama-bridge" / "wasm").glob("build-*"))


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = run("--output", str(tmp_path / "x.wasm"), cache=tmp_path / "file")
    assert result.returncode == 1
    assert "set XDG_CACHE_HOME" in result.stderr


def test_the_description_fits_the_file_and_names_no_place_of_this_machine(wasm: Path) -> None:
    text = wasm.with_name("llama.wasm.json").read_text(encoding="utf-8")
    description = json.loads(text)
    assert description["sha256"] == hashlib.sha256(wasm.read_bytes()).hexdigest()
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert {"llama_cpp_commit", "source", "toolchain", "settings", "files"} <= set(description)


def test_llama_wasm_holds_no_path_of_this_machine(wasm: Path) -> None:
    data = wasm.read_bytes()
    for place in (str(ROOT), str(Path.home() / ".cache"), "site-packages", "/tmp/"):
        assert place.encode() not in data
    assert b"llama.cpp/ggml/src" in data, "assertions still say where they stand"


def test_a_second_build_only_copies(wasm: Path, tmp_path: Path) -> None:
    plan = subprocess.run(
        [
            sys.executable,
            "-c",
            "import build; print(build.cache_folder() / build.digest_of(build.describe_inputs(build.modules()['llama'])))",
        ],
        cwd=ROOT / "wasm",
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(plan.stdout.strip(), "llama.wasm.json").is_file():
        pytest.skip("llama.wasm was not built from these sources by this user")
    result = run("--output", str(tmp_path / "copy.wasm"))
    assert result.returncode == 0
    assert "compiling" not in result.stdout
    description = json.loads((tmp_path / "copy.wasm.json").read_text(encoding="utf-8"))
    assert (
        description["sha256"] == hashlib.sha256((tmp_path / "copy.wasm").read_bytes()).hexdigest()
    )


def test_a_module_with_llama_cpps_own_kernels_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "wasm"))
    build = importlib.import_module("build")
    ours, stock = (
        build.describe_inputs(build.modules(stock=stock)["llama"]) for stock in (False, True)
    )
    assert build.digest_of(ours) != build.digest_of(stock)
    settings = {**stock["settings"]}
    assert settings.pop("LB_STOCK") == "ON"
    assert {**stock, "settings": settings} == ours


def test_an_edit_whose_place_has_moved_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "wasm"))
    edits = importlib.import_module("edits")
    error = importlib.import_module("source").BuildError
    one = edits.Edit("ggml/a.c", "old text", "new text", "to see it happen")
    file = tmp_path / "ggml" / "a.c"
    with pytest.raises(error, match=r"no longer has ggml/a\.c"):
        edits.apply(tmp_path, (one,))
    file.parent.mkdir()
    for text in ("another text", "old text, old text"):
        file.write_text(text)
        with pytest.raises(error, match=r"once, but has it \d times \(to see it happen\)"):
            edits.apply(tmp_path, (one,))
        assert file.read_text() == text
    file.write_text("before\nold text\nafter\n")
    edits.apply(tmp_path, (one,))
    assert file.read_text() == "before\nnew text\nafter\n"
    assert edits.EDITS
    assert edits.CHAT_EDITS


def test_each_module_has_a_name_of_its_own_for_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "wasm"))
    build = importlib.import_module("build")
    inputs = {name: build.describe_inputs(module) for name, module in build.modules().items()}
    assert set(inputs) == {"llama", "chat"}
    assert build.digest_of(inputs["llama"]) != build.digest_of(inputs["chat"])
    chat = set(inputs["chat"]["files"])
    assert {"chat/shim.cpp", "chat/lb_chat.h", "runtime/malloc.c"} <= chat
    assert not any(name.startswith(("kernels/", "shim/")) for name in chat)
    assert not any(name.startswith("chat/") for name in inputs["llama"]["files"])


SAME_EVERYWHERE = {
    "i16x8.relaxed_dot_i8x16_i7x16_s": "one side is codes of at most 127: no sum overflows, whoever adds it",
    "i32x4.relaxed_dot_i8x16_i7x16_add_s": "the same, and no sum of four products is near 32 bits",
}
"""The relaxed instructions that may be in llama.wasm, and why their results depend on no CPU."""


def test_no_instruction_gives_other_results_on_another_cpu(wasm: Path) -> None:
    found = relaxed_instructions(wasm.read_bytes())
    assert set(found) == set(SAME_EVERYWHERE), "the kernels are not there, or something else is"


def test_the_reader_knows_each_relaxed_instruction() -> None:
    for number, name in RELAXED.items():
        body = bytes([0, 0xFD, number & 127 | 128, number >> 7, 0x0B])
        code = b"\0asm\1\0\0\0" + bytes([10, len(body) + 2, 1, len(body)]) + body
        assert relaxed_instructions(code) == {name: 1}
