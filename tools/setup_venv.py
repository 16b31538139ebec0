"""Makes .venv: the project and its tools, llama.wasm, chat.wasm, the chat application, and the native backend if there is a compiler.

Every make target runs it. It is quick if nothing has changed: a stamp has a digest of all inputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-digest"
LOG = VENV / "native-build.log"
NATIVE_STAMP = VENV / "native-digest"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
NEEDED = (3, 11)
NATIVE_OPTIONS = ("-U__AMX_INT8__", "-U__AVX512FP16__")
"""What llama.cpp shall not know of the CPU.

- GCC before 12.4 compiles AMX wrongly, and the first prompt would end the process: see native's has_amx().
- With AVX512-FP16 it multiplies 16-bit floats 128 at a time and the rest one by one, so attention over heads of 64 values
  (Qwen2-0.5B, Llama 3.2 1B) is slow, and it adds up in 16 bits.
"""


DAY = 86_400.0
"""Seconds after which what a compilation left that was killed is removed."""


def say(text: str) -> None:
    """Print a line for the user."""
    print(f"setup: {text}", flush=True)


def fail(text: str) -> NoReturn:
    """Stop with a reason and advice."""
    sys.exit(f"setup: {text}")


def run(*command: str, **environment: str) -> None:
    """Run a step. If it fails, the set-up ends, and the step's own output says why."""
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if result.returncode:
        fail(f"this step failed with status {result.returncode}: {' '.join(command)}")


def pip(*arguments: str) -> None:
    """Install into .venv, quietly."""
    options = ("--quiet", "--disable-pip-version-check")
    run(str(PYTHON), "-m", "pip", "install", *options, *arguments)


def project() -> dict[str, list[str]]:
    """Requirements from pyproject.toml: ``dev`` and ``native``."""
    import tomllib  # Python 3.10 lacks it, and is told so before

    with (ROOT / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)
    return {
        "dev": data["dependency-groups"]["dev"],
        "native": data["project"]["optional-dependencies"]["native"],
    }


def digest() -> str:
    """A digest of everything that the set-up depends on."""
    state = hashlib.sha256(f"{sys.version} {ROOT}".encode())
    built = [p for name in ("wasm", "app") for p in sorted((ROOT / name).rglob("*"))]
    built = [p for p in built if "__pycache__" not in p.parts]
    for path in [ROOT / "pyproject.toml", Path(__file__), *built]:
        if path.is_file():
            state.update(path.read_bytes())
    return state.hexdigest()


def wait_for_others() -> None:
    """One set-up of this folder at a time: the lock is held until this process ends."""
    if sys.platform == "win32":
        return
    import fcntl  # Windows has none

    handle = os.open(ROOT, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this folder")
            fcntl.flock(handle, fcntl.LOCK_EX)


def make_venv() -> None:
    """Create .venv, or recreate it if its Python is gone."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-c", ""], capture_output=True).returncode == 0:
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    result = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if result.returncode:
        fail("Python could not make a virtual environment; on Debian: apt-get install python3-venv")


def native_key(requirements: list[str]) -> str:
    """A digest of everything that the native wheel depends on, this machine's CPU included."""
    cpu = platform.machine()
    if (told := Path("/proc/cpuinfo")).is_file():
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", told.read_text(), re.MULTILINE)
        cpu += " ".join(sorted(flags[1].split())) if flags else ""
    given = [os.environ.get(name, "") for name in ("CC", "CXX", "CMAKE_ARGS")]
    state = [cpu, sys.platform, *requirements, *NATIVE_OPTIONS, *given]
    return hashlib.sha256("\n".join(state).encode()).hexdigest()[:16]


def is_whole(wheel: Path) -> bool:
    """Whether a wheel can be unpacked: a disk that got full, or a power cut, may have left half of it."""
    try:
        with zipfile.ZipFile(wheel) as files:
            return files.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False


def remove_what_is_left(folder: Path) -> None:
    """Remove a damaged wheel's folder, and the folders of compilations that were killed."""
    for path in folder.parent.glob(f"{'[0-9a-f]' * 16}-*"):
        with contextlib.suppress(OSError):  # another one removes it
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path)
    if folder.exists():
        shutil.rmtree(folder)


def native_wheel(requirements: list[str], key: str) -> Path | None:
    """Compile llama-cpp-python into the per-user cache, unless it is there; None if that fails.

    pip's own cache does not tell wheels with other options, or for another CPU, apart.
    """
    sys.path.insert(0, str(ROOT))  # this file is run as a program
    from wasm.source import BuildError, cache_folder

    try:
        folder = cache_folder("native") / key
        if found := [path for path in folder.glob("*.whl") if is_whole(path)]:
            return found[0]
        remove_what_is_left(folder)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{key}-"))
    except BuildError as error:
        fail(str(error))
    except OSError as error:
        why = f"{error.strerror}: {error.filename}"
        fail(f"cannot write to the cache ({why}): set XDG_CACHE_HOME to a writable folder")
    say("native backend: compiling llama.cpp, a few minutes the first time")
    options = " ".join(NATIVE_OPTIONS)
    flags = [f"-DCMAKE_{language}_FLAGS='{options}'" for language in ("C", "CXX")]
    arguments = " ".join([os.environ.get("CMAKE_ARGS", ""), *flags])
    started = shown = time.monotonic()
    command = [str(PYTHON), "-m", "pip", "wheel", "--verbose", "--no-cache-dir", "--no-deps"]
    with (
        LOG.open("w") as log,
        subprocess.Popen(
            [*command, "--wheel-dir", str(part), *requirements],
            cwd=ROOT,
            env={**os.environ, "CMAKE_ARGS": arguments},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            step = re.search(r"\[(\d+)/(\d+)\]", line)
            if step and time.monotonic() - shown > 10:
                shown = time.monotonic()
                say(f"  {step[1]} of {step[2]} files, {shown - started:.0f} s")
    if process.returncode:
        shutil.rmtree(part)
        return None
    say(f"native backend: compiled in {time.monotonic() - started:.0f} s")
    with contextlib.suppress(OSError):  # another one was quicker
        part.rename(folder)
    shutil.rmtree(part, ignore_errors=True)
    return next(folder.glob("*.whl"))


def install_native(requirements: list[str]) -> None:
    """Install the native backend, if it is another than the one that is there. If that fails, the wasm backend is enough."""
    key = native_key(requirements)
    if NATIVE_STAMP.is_file() and NATIVE_STAMP.read_text() == key:
        return
    compilers = [os.environ.get("CC") or "cc", os.environ.get("CXX") or "c++"]
    missing = [name for name in compilers if not shutil.which(name.split()[0])]
    if missing:
        say(f"no compiler ({', '.join(missing)} not found): continuing without the native backend.")
        say("  llama-bridge works with its wasm backend. For the native one, install a C and a C++")
        say("  compiler (Debian: apt-get install build-essential) and run this again.")
        return
    wheel = native_wheel(requirements, key)
    if wheel is None:
        say(f"the native backend could not be built; the end of {LOG.relative_to(ROOT)}:")
        print("".join(LOG.read_text().splitlines(keepends=True)[-15:]))
        say("continuing with the wasm backend only")
        return
    pip(str(wheel))
    pip("--force-reinstall", "--no-deps", str(wheel))
    NATIVE_STAMP.write_text(key)


def main() -> None:
    """Bring .venv up to date."""
    if sys.version_info < NEEDED:
        have = ".".join(map(str, sys.version_info[:3]))
        fail(f"Python 3.11 or newer is needed, this is {have}; try: make PYTHON=python3.12")
    wait_for_others()
    fresh = digest()
    if not (PYTHON.exists() and STAMP.is_file() and STAMP.read_text() == fresh):
        make_venv()
        requirements = project()
        say("llama.wasm and chat.wasm")
        run(str(PYTHON), "wasm/build.py")
        say("the chat application")
        run(str(PYTHON), "app/build.py")
        say("the project and its tools")
        pip("--editable", ".[cli,hub,serve,remote]", *requirements["dev"])
        STAMP.write_text(fresh)
    install_native(project()["native"])


if __name__ == "__main__":
    main()
