"""pyodide-build and a cross-build environment for it, kept in the per-user cache.

pyodide-build needs a folder that describes the target interpreter: its versions, its ``sysconfig`` data, and how to
run it. The npm package ``pyodide`` has all of that except the compiler, which a pure wheel does not need.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tools import pythons
from tools.browser.fetch import FetchError, node, node_modules
from tools.random_model.cache import cache_folder

__all__ = ["Environment", "environment", "run"]

_HERE = Path(__file__).parent
_REQUIREMENTS = ("pyodide-build==0.39.2", "hatchling==1.33.0")
_MINOR = "3.13"
"""The Python of the npm package ``pyodide-for-build``. ``pyodide venv`` needs the same version on the host."""

_SYSCONFIG = "_sysconfigdata__emscripten_wasm32-emscripten"

_VARIABLES = """\
export PYVERSION = {python}
export PYMAJOR = {major}
export PYMINOR = {minor}
export PYMICRO = {micro}
export PYODIDE_VERSION = {pyodide}
export PYODIDE_ABI_VERSION = {abi_version}
export PYODIDE_EMSCRIPTEN_VERSION = {emscripten}
export PLATFORM_TRIPLET = wasm32-emscripten
export SYSCONFIG_NAME = {sysconfig}
export CPYTHONINSTALL = $(PYODIDE_ROOT)/cpython/installs/python-{python}
export TARGETINSTALLDIR = $(CPYTHONINSTALL)
export SYSCONFIGDATA_DIR = $(CPYTHONINSTALL)/sysconfigdata
export PYTHONINCLUDE = $(CPYTHONINSTALL)/include/python{major}.{minor}
export PIP_CONSTRAINT = $(PYODIDE_ROOT)/tools/constraints.txt
export PYODIDE_ZIP_COMPRESSION_LEVEL = 6
export CFLAGS_BASE =
export CXXFLAGS_BASE =
export LDFLAGS_BASE =
.output_vars: ; @env
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """pyodide-build, ready to use.

    Attributes:
        python: the host interpreter that it is installed in.
        variables: environment variables to call it with.
        version: version of Pyodide.
        key: changes whenever something here changes.
    """

    python: Path
    variables: dict[str, str]
    version: str
    key: str

    def pyodide(self, *arguments: str | Path) -> str:
        """Call ``pyodide``, as in ``pyodide("venv", folder)``, and return its output.

        Raises:
            FetchError: it failed.
        """
        command = [self.python.with_name("pyodide"), *arguments]
        return run(command, self.variables)


def environment() -> Environment:
    """The environment from the cache. If it is missing it is made first.

    Raises:
        FetchError: Python, npm or a package is missing.
    """
    package = node_modules() / "pyodide-for-build"
    sources = [path.read_bytes() for path in (Path(__file__), _HERE / "python_cli.mjs")]
    version = json.loads((package / "package.json").read_text())["version"]
    made_of = b"".join([*sources, version.encode(), bytes(node())])
    key = hashlib.sha256(made_of).hexdigest()[:16]
    folder = cache_folder("pyodide-build") / key
    finished = folder / "finished"
    # Made where it stays, because virtual environments cannot be moved.
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([_host_python(), "-m", "venv", folder / "host"])
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([folder / "host/bin/python", *install, *_REQUIREMENTS])
        _make_root(package, version, folder / "xbuildenv" / "pyodide-root")
        finished.touch()
    variables = {
        "PYODIDE_ROOT": str(folder / "xbuildenv" / "pyodide-root"),
        "SKIP_EMSCRIPTEN_VERSION_CHECK": "1",
    }
    return Environment(folder / "host/bin/python", variables, version, key)


def run(command: list[str | Path], variables: dict[str, str] | None = None) -> str:
    """Run a command in the project's folder and return its output.

    Raises:
        FetchError: it failed.
    """
    result = subprocess.run(
        [str(word) for word in command],
        cwd=_HERE.parents[1],
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    if result.returncode:
        words = shlex.join(map(str, command[:4]))
        raise FetchError(f"{words} ... failed:\n{result.stdout[-3000:]}")
    return result.stdout


def _make_root(package: Path, version: str, root: Path) -> None:
    info = json.loads((package / "pyodide-lock.json").read_text())["info"]
    major, minor, micro = info["python"].split(".")
    dist = root / "dist"
    shutil.copytree(package, dist)
    # Packages are installed from wheels on this machine, never from the addresses in this list.
    (dist / "pyodide-lock.json").write_text(json.dumps({"info": info, "packages": {}}))
    shutil.copy(_HERE / "python_cli.mjs", dist)
    launcher = dist / "python"
    launcher.write_text(
        '#!/bin/sh\nreal=$(readlink -f "$0")\n'
        f'exec {shlex.quote(str(node()))} "${{real%/*}}/python_cli.mjs" "$0" "$@"\n'
    )
    launcher.chmod(0o755)
    shutil.copy(package / "package.json", root)
    (root.parent / "requirements.txt").write_text("")
    (root / "tools").mkdir()
    (root / "tools" / "constraints.txt").write_text("")
    emscripten = info["platform"].removeprefix("emscripten_").replace("_", ".")
    (root / "Makefile.envs").write_text(
        _VARIABLES.format(
            **info,
            major=major,
            minor=minor,
            micro=micro,
            pyodide=version,
            emscripten=emscripten,
            sysconfig=_SYSCONFIG,
        )
    )
    data = root / f"cpython/installs/python-{info['python']}/sysconfigdata"
    with zipfile.ZipFile(package / "python_stdlib.zip") as library:
        library.extract(f"{_SYSCONFIG}.py", data)


def _host_python() -> Path:
    found = pythons.find(_MINOR)
    if found is None:
        raise FetchError(
            f"Python {_MINOR} is needed, on the path or in pyenv: pyenv install {_MINOR}"
        )
    return found
