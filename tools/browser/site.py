"""Lays out a folder for a static server: Pyodide, wheels, the project's own wheel, and the page.

.. code-block:: text

    pyodide/       the runtime: import { loadPyodide } from "./pyodide/pyodide.mjs"
    app/           the chat application, for pages that show it
    wheels/        the wheels to install
    wheels.json    {"micropip": [paths], "llama_bridge": [paths], "tests": [paths]}, in this order; and in a compiled site
                   {"started": [path of Python's memory once it has started and imported llama-bridge, path of the files
                   of the same wheels for a browser to unpack, not Python]}, both gzipped

The paths of ``micropip`` are for ``loadPyodide({ packages })``, the others for ``micropip.install(paths, deps=False)``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import fetch

__all__ = ["build_wheel", "lay_out"]

ROOT = Path(__file__).resolve().parents[2]

_RUNTIME = (
    "pyodide.asm.mjs",
    "pyodide.asm.wasm",
    "pyodide.mjs",
    "pyodide-lock.json",
    "python_stdlib.zip",
)


def lay_out(
    folder: Path,
    *,
    extra: Sequence[Path] = (),
    wheel: Path | None = None,
    tests: Mapping[str, str] | None = None,
    compiled: bool = False,
) -> Path:
    """Make or renew the site in ``folder``, and return the folder.

    Args:
        folder: created if missing; other files in it stay.
        extra: files to put at the top, and folders whose content goes there.
        wheel: the project's wheel; built from this tree if not given.
        tests: names and versions of more wheels to serve, as in :data:`.fetch.TESTS`.
        compiled: serve what the page imports as bytecode, so that the first token comes sooner.

    Raises:
        FetchError: something could not be fetched.
    """
    runtime, packages, app = (folder / name for name in ("pyodide", "wheels", "app"))
    for part in (runtime, packages, app):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    for name in _RUNTIME:
        shutil.copy(fetch.pyodide() / name, runtime)
    _build_app(app)
    own = build_wheel(packages) if wheel is None else Path(shutil.copy(wheel, packages))
    page = {path.name.partition("-")[0]: path for path in fetch.wheels(fetch.PAGE)}
    groups = {
        "micropip": [page.pop("micropip"), page.pop("packaging")],
        "llama_bridge": [*page.values(), own],
        "tests": fetch.wheels(tests or {}),
    }
    paths: dict[str, list[str]] = {}
    for group, members in groups.items():
        for path in members:
            if path != own:
                shutil.copy(path, packages)
        paths[group] = [f"wheels/{path.name}" for path in members]
    if compiled:
        wheels = [folder / path for path in paths["llama_bridge"]]
        _compile(wheels)
        written = _start(wheels, runtime), _store(wheels, runtime)
        paths["started"] = [f"pyodide/{path.name}" for path in written]
    (folder / "wheels.json").write_text(json.dumps(paths, indent=2) + "\n")
    for path in extra:
        if path.is_dir():
            shutil.copytree(path, folder, dirs_exist_ok=True)
        else:
            shutil.copy(path, folder)
    return folder


def _build_app(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "app" / "build.py"), "--page", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if result.returncode:
        raise fetch.FetchError(f"the chat application could not be built:\n{result.stderr[-2000:]}")


def _compile(wheels: Sequence[Path]) -> None:
    """Replace wheels by ones with bytecode for Pyodide's Python."""
    here = Path(__file__).parent
    command = [fetch.node(), here / "compile.mjs", fetch.pyodide(), here / "compile_wheels.py"]
    result = subprocess.run(
        [*map(str, command), *map(str, wheels)], capture_output=True, text=True, timeout=300
    )
    if result.returncode:
        raise fetch.FetchError(f"the wheels could not be compiled:\n{result.stderr[-2000:]}")


def _start(wheels: Sequence[Path], runtime: Path) -> Path:
    """Write Python's memory once it has started and imported llama-bridge, compressed: it is read ten times sooner.

    Its name changes with all that it is made of, so that a page never mixes two versions, and a browser may keep it.
    """
    make = Path(__file__).with_name("start.mjs")
    parts = [*wheels, make, runtime / "pyodide.asm.wasm", runtime / "python_stdlib.zip"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()
    file = runtime / f"started-{digest[:16]}.bin"
    command = [fetch.node(), make, fetch.pyodide(), file, *wheels]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    if result.returncode:
        words = result.stderr[-2000:]
        raise fetch.FetchError(f"Python's memory could not be written:\n{words}")
    return file


def _store(wheels: Sequence[Path], runtime: Path) -> Path:
    """Write the files of the wheels one after the other, behind a line of JSON with their names and sizes, and gzip all.

    The page's worker unpacks that in a tenth of the time that Python takes for the wheels.
    """
    files = dict[str, bytes]()
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            files |= {
                info.filename: wheel.read(info) for info in wheel.infolist() if not info.is_dir()
            }
    line = json.dumps([[name, len(content)] for name, content in files.items()])
    packed = gzip.compress(b"".join([line.encode(), b"\n", *files.values()]), mtime=0)
    file = runtime / f"llama_bridge-{hashlib.sha256(packed).hexdigest()[:16]}.bin"
    file.write_bytes(packed)
    return file


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel from this tree in ``folder``.

    Raises:
        FetchError: it could not be built.
    """
    before = set(folder.glob("*.whl"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    made = [path for path in folder.glob("llama_bridge-*.whl") if path not in before]
    if result.returncode or len(made) != 1:
        raise fetch.FetchError(f"the wheel could not be built:\n{result.stderr[-2000:]}")
    return made[0]
