"""The wheel alone, on a machine with no compiler and no native extra, gives a working bridge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A virtual environment with the wheel and nothing else; an environment without compilers or caches."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (folder / "home").mkdir()
    environment = {
        k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "REQUESTS_", "LANG"))
    }
    environment |= {"PATH": str(folder / "venv" / "bin"), "HOME": str(folder / "home")}
    return folder / "venv" / "bin", environment


def run(
    bin_and_env: tuple[Path, dict[str, str]], *command: str
) -> subprocess.CompletedProcess[str]:
    folder, environment = bin_and_env
    return subprocess.run(
        [str(folder / command[0]), *command[1:]],
        env=environment,
        cwd=environment["HOME"],
        capture_output=True,
        text=True,
    )


def pip_install(clean: tuple[Path, dict[str, str]], what: str) -> None:
    # The user's own pip settings (an index, a certificate) are part of the machine, not of the project.
    settings = {**clean[1], "HOME": os.environ.get("HOME", "")}
    result = run(
        (clean[0], settings | {"HOME": settings["HOME"] or "/"}), "pip", "install", "-q", what
    )
    assert result.returncode == 0, result.stderr


def test_it_is_one_pure_wheel_with_all_it_needs(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "llama_bridge/py.typed",
        "llama_bridge/data/demo.gguf",
        "llama_bridge/data/demo.md",
        "llama_bridge_native/engine.py",
        "llama_bridge_wasm/llama.wasm",
        "llama_bridge_wasm/llama.wasm.json",
        "llama_bridge/chat/module/chat.wasm",
        "llama_bridge/chat/module/chat.wasm.json",
        "llama_bridge/serve/page/app.js",
        "llama_bridge/serve/page/licences.txt",
    ):
        assert needed in names
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {
        "llama_bridge",
        "llama_bridge_command",
        "llama_bridge_native",
        "llama_bridge_pytest",
        "llama_bridge_remote",
        "llama_bridge_wasm",
    }


def test_without_the_cli_extra_the_command_says_what_is_missing(
    wheel: Path, clean: tuple[Path, dict[str, str]]
) -> None:
    pip_install(clean, str(wheel))
    result = run(clean, "llama-bridge", "demo")
    assert result.returncode == 2
    assert 'pip install "llama-bridge[cli]"' in result.stderr
    assert result.stdout == ""
    installed = run(clean, "pip", "list", "--format", "json").stdout
    packages = {entry["name"].lower() for entry in json.loads(installed)}
    assert packages - {"pip", "setuptools"} == {
        "llama-bridge",
        "wasmtime",
        "xxhash",
        "anyio",
        "idna",
        "typing_extensions",
        "platformdirs",
    }


def test_with_the_cli_extra_it_says_that_only_wasm_is_there(
    wheel: Path, clean: tuple[Path, dict[str, str]]
) -> None:
    pip_install(clean, f"{wheel}[cli]")  # "make wheels" runs the demo so, under each Python
    doctor = run(clean, "llama-bridge", "doctor", "--json").stdout
    backends = json.loads(doctor)["backends"]
    assert [backend["name"] for backend in backends if backend["works"]] == ["wasm"]
    assert "llama-bridge[native]" in doctor
