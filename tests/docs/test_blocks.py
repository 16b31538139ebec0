"""Every code block of README and documentation runs; what cannot run has a reason here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import Capability, FallbackWarning, LlamaBridge, SamplingParams, registry
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from llama_bridge.testing.hub import HubServer
from tests.making import embedding_model
from tools.setup_venv import NATIVE_OPTIONS

from .pages import PAGES, ROOT, Block, blocks, commands

if sys.platform == "emscripten":
    pytest.skip("a page has no documentation", allow_module_level=True)

from llama_bridge.serve import app
from tests.serve.serving import serving

SESSIONS = Capability.SESSION_PERSISTENCE | Capability.SESSION_TOOLS | Capability.KV_CONTINUATION

ELSEWHERE = {
    "export CMAKE_ARGS=": "tools/setup_venv.py compiles so: see test_native_is_compiled_as_the_set_up_does",
    "pip install": "tests/packaging installs the wheel into an empty environment",
    "make ": "the targets are looked up below",
    "pytest": "tests/testing/test_plugin.py runs the plugin with these options",
    "serve run": "Ray Serve runs until Ctrl-C; tests/fleet runs such a fleet where Ray is",
    "llama-bridge serve": "it serves until Ctrl-C; tests/serve starts it",
    ".venv/bin/python -m tools.browser": "it serves until Ctrl-C; tests/browser opens such a page",
    "python examples/desktop_": "it opens a window; tests/examples drives it",
}
"""Commands that are not run here, by their beginnings, and why."""

NO_CODE = {"text": "output, a drawing, or headers"}
"""Languages of blocks that hold no code."""


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


def of(page: Path, *, tests: bool) -> list[Block]:
    """The Python blocks of a page that run on a desktop."""
    found = (block for block in blocks(page) if block.language == "python")
    return [block for block in found if block.is_tests is tests and "page" not in block.flags]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_there_is_no_block_that_nothing_runs() -> None:
    found = all_blocks()
    assert len(found) > 40
    for block in found:
        known = block.language in {"python", "console", "toml", *NO_CODE}
        assert known or block.language.startswith("{"), f"{block}: nothing runs {block.language!r}"
        assert set(block.flags) <= {"native", "page"} or not known, f"{block}: {block.flags}"
    # Blocks in reStructuredText are not looked for, so there are none.
    for path in ROOT.glob("docs/**/*.rst"):
        assert not re.search(r"code-block|^[^.\n].*::$", path.read_text(encoding="utf-8"), re.M), (
            path
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a reader's own, with a model in it; home is there, too."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)  # llama.wasm is compiled once
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    shutil.copy(open_model("demo").path, tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def space() -> Iterator[dict[str, Any]]:
    """The names that the blocks of a page share; models that they leave loaded are freed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    yield names
    for value in names.values():
        if isinstance(value, LlamaBridge):
            value.close()


@contextmanager
def served(page: Path, backend: str) -> Iterator[str]:
    """Where the server answers that a page talks to."""
    if page.name not in ("server.md", "remote.md"):
        yield "nowhere"
        return
    with (
        LlamaBridge("model.gguf", backend=backend, sampling=SamplingParams(temperature=0)) as llama,
        serving(app(llama)) as address,
    ):
        yield f"127.0.0.1:{address.port}"


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, tests=False)], ids=name_of)
def test_python_runs_from_top_to_bottom(
    page: Path,
    llama_backend: str,
    folder: Path,
    space: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (backend,) = registry.candidates(llama_backend)
    able = SESSIONS in backend.capabilities
    monkeypatch.setenv(registry.ENVIRONMENT, llama_backend)
    with warnings.catch_warnings(), served(page, llama_backend) as address:
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FallbackWarning)
        for block in of(page, tests=False):
            if "native" in block.flags and not able:
                continue
            text = block.text.replace("127.0.0.1:8080", address)
            code = "\n" * (block.line - 1) + text  # so that a traceback names the line
            exec(compile(code, page, "exec"), space)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if of(page, tests=True)], ids=name_of)
def test_tests_pass(page: Path, folder: Path) -> None:
    for i, block in enumerate(of(page, tests=True)):
        Path(f"test_block_{i}.py").write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def typed() -> list[tuple[str, str]]:
    """All commands, each once, with the first place where it stands."""
    found: dict[str, str] = {}
    for block in all_blocks():
        if block.language == "console":
            for command in commands(block):
                found.setdefault(command, str(block))
    return list(found.items())


def test_native_is_compiled_as_the_set_up_does() -> None:
    (command,) = (each for each, _ in typed() if each.startswith("export CMAKE_ARGS="))
    arguments = shlex.split(shlex.split(command)[1].partition("=")[2])
    flags = " ".join(NATIVE_OPTIONS)
    assert arguments == [f"-DCMAKE_{language}_FLAGS={flags}" for language in ("C", "CXX")]


@pytest.mark.parametrize(("command", "place"), typed())
def test_a_command_is_run_here_or_elsewhere(command: str, place: str) -> None:
    if command.startswith("make "):
        target = command.split()[1]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), place
    elsewhere = any(command.startswith(beginning) for beginning in ELSEWHERE)
    assert elsewhere or "llama-bridge " in command, f"{place}: nothing runs {command!r}"


@pytest.fixture
def hub(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a hub on this machine that has what the pages name."""
    with HubServer() as server:
        server.add("org/repo", {"model-Q4_K_M.gguf": open_model("demo").path})
        mine = {name: v for name, v in server.environment(folder).items() if name[0] != "X"}
        yield mine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "place"),
    [found for found in typed() if not any(found[0].startswith(each) for each in ELSEWHERE)],
)
def test_the_command_line_does_as_it_is_told(
    command: str, place: str, folder: Path, hub: dict[str, str]
) -> None:
    if "session" in command:
        if not any(SESSIONS in each.capabilities for each in registry.candidates()):
            pytest.skip("no backend here keeps sessions")
        with LlamaBridge("demo") as llama:
            llama.generate("Hello!")
            llama.session_save("chat.session")
    if "embedding.gguf" in command:
        embedding_model(folder / "embedding.gguf")
    for name in ("style.gguf", "facts.gguf"):
        if name in command:
            write_adapter(folder / name, open_model("demo"))
    if "lines.txt" in command:
        Path("lines.txt").write_text("one\ntwo words\n", encoding="utf-8")
    if command.startswith("llama-bridge rm"):
        command = command.replace("rm", "pull") + " && " + command
    scripts = sysconfig.get_path("scripts")
    done = subprocess.run(
        command,
        shell=True,
        env=os.environ | hub | {"PATH": os.pathsep.join([scripts, os.environ["PATH"]])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{place}: {done.stdout}{done.stderr}"


def test_toml_can_be_read() -> None:
    found = [block for block in all_blocks() if block.language == "toml"]
    assert found
    for block in found:
        (group,) = tomllib.loads(block.text)["project"]["entry-points"]
        assert group == registry.GROUP, block
