"""Build llama.wasm: ``python wasm/build.py [--output PATH] [--stock]``.

Needs only Python with pip, no compiler. The result is kept in a per-user cache under a name made from all its
inputs, so the second run only copies it. See README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import edits
import source
import toolchain
from layout import SOURCES, Layout, lay_out
from source import BuildError, cache_folder

HERE = Path(__file__).resolve().parent
DEFAULT_OUTPUT = HERE.parent / "backends" / "llama_bridge_wasm" / "llama.wasm"


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help="where to write llama.wasm"
    )
    parser.add_argument(
        "--sdist", type=Path, help="llama-cpp-python's source distribution, if you have it"
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="build even if the cache has the result"
    )
    parser.add_argument(
        "--stock", action="store_true", help="keep llama.cpp's own kernels, for comparison"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("llama.wasm: terminated"))  # clean up, too
    try:
        build(options.output, options.sdist, rebuild=options.rebuild, stock=options.stock)
    except BuildError as error:
        print(f"llama.wasm: {error}", file=sys.stderr)
        return 1
    return 0


def build(
    output: Path, sdist: Path | None = None, *, rebuild: bool = False, stock: bool = False
) -> None:
    """Write llama.wasm to ``output`` and its description to ``output`` + ``.json``.

    Raises:
        BuildError: something is missing or did not compile; the message says what.
    """
    cache = cache_folder()
    inputs = describe_inputs(stock=stock)
    made = cache / digest_of(inputs)
    if rebuild or not _is_whole(made):
        _compile(cache, made, sdist, inputs, stock=stock)
    for name in ("llama.wasm", "llama.wasm.json"):
        _copy(made / name, output.with_name(output.name + name.removeprefix("llama.wasm")))
    print(f"llama.wasm: {output} ({output.stat().st_size / 1e6:.2f} MB)", flush=True)


def describe_inputs(*, stock: bool = False) -> dict[str, object]:
    """Everything that determines the result's bytes: no local path and no time."""
    files = sorted(path for pattern in SOURCES for path in HERE.glob(pattern) if path.is_file())
    return {
        "llama_cpp_commit": source.LLAMA_CPP_COMMIT,
        "source": {"name": source.PROJECT, "version": source.VERSION, "sha256": source.SHA256},
        "toolchain": toolchain.TOOLS,
        "edits": [[edit.file, edit.old, edit.new] for edit in edits.EDITS],
        "settings": toolchain.cmake_settings(Layout(Path("root")), stock=stock),
        "files": {
            path.relative_to(HERE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        },
    }


def digest_of(inputs: dict[str, object]) -> str:
    """A short name for these inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]


def _is_whole(made: Path) -> bool:
    try:
        wasm = (made / "llama.wasm").read_bytes()
        description = json.loads((made / "llama.wasm.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(description.get("sha256") == hashlib.sha256(wasm).hexdigest())


def _compile(
    cache: Path, made: Path, sdist: Path | None, inputs: dict[str, object], *, stock: bool
) -> None:
    started = time.monotonic()
    log_path = cache / "build.log"
    # Concurrent builds use separate folders; the last rename wins, and all results are equal.
    work = Path(tempfile.mkdtemp(dir=cache, prefix="build-")).resolve()
    try:
        with (work / "build.log").open("w", encoding="utf-8", errors="replace") as stream:

            def log(text: str) -> None:
                stream.write(text)
                stream.flush()

            def phase(text: str) -> None:
                print(f"llama.wasm: {text}", flush=True)
                log(f"--- {text}\n")

            phase(f"llama.cpp {source.LLAMA_CPP_COMMIT} (from {source.PROJECT} {source.VERSION})")
            python = toolchain.find_pip(cache)
            sdist = source.fetch(cache, python, sdist, log)
            phase("build tools (zig, cmake, ninja) from PyPI; once per user")
            tools = toolchain.install(cache, python, log)
            phase("configuring")
            layout = lay_out(work, HERE, tools.ziglang)
            source.unpack(sdist, layout.llama_cpp)
            edits.apply(layout.llama_cpp)
            environment = _environment(layout)
            result = subprocess.run(
                toolchain.cmake_command(tools, layout, stock=stock),
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            log(result.stdout)
            if result.returncode != 0:
                raise BuildError("cmake failed")
            phase("compiling; a few minutes, the first time only")
            _run_ninja([str(tools.ninja), "-C", str(layout.build)], environment, log)
        wasm = (layout.build / "llama.wasm").read_bytes()
        description = {**inputs, "sha256": hashlib.sha256(wasm).hexdigest(), "size": len(wasm)}
        _publish(work, made, wasm, json.dumps(description, indent=2, sort_keys=True) + "\n")
    except BaseException as error:
        if (work / "build.log").is_file():
            shutil.copy(work / "build.log", log_path)
            if isinstance(error, BuildError):
                tail = (work / "build.log").read_text(encoding="utf-8", errors="replace")
                lines = "\n".join("  " + line for line in tail.splitlines()[-40:])
                raise BuildError(f"{error}\n{lines}\nThe whole log: {log_path}") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"llama.wasm: built in {time.monotonic() - started:.0f} s", flush=True)


def _run_ninja(command: list[str], environment: dict[str, str], log: Callable[[str], None]) -> None:
    process = subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    shown = -1
    try:
        for line in process.stdout:
            log(line)
            if step := re.match(r"\[(\d+)/(\d+)\]", line):
                shown = _show_progress(int(step[1]), int(step[2]), shown)
        if process.wait() != 0:
            raise BuildError("compiling failed")
    finally:
        process.terminate()  # if interrupted: otherwise it goes on compiling alone
        process.wait()
        if sys.stdout.isatty():
            print(flush=True)


def _show_progress(done: int, total: int, shown: int) -> int:
    percent = 100 * done // total
    text = f"llama.wasm: {percent:3d} % ({done} of {total} files)"
    if sys.stdout.isatty():
        print(f"\r{text}", end="", flush=True)
    elif percent // 10 > shown // 10:
        print(text, flush=True)
    return percent


def _environment(layout: Layout) -> dict[str, str]:
    # Flags from outside would change the build. The compiler's own cache is removed with the work folder.
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in {"CFLAGS", "CXXFLAGS", "LDFLAGS", "CPPFLAGS"}
    }
    return {
        **kept,
        "ZIG_GLOBAL_CACHE_DIR": str(layout.zig_cache),
        "ZIG_LOCAL_CACHE_DIR": str(layout.zig_cache),
        "LC_ALL": "C",
    }


def _publish(work: Path, made: Path, wasm: bytes, description: str) -> None:
    ready = work / "ready"
    ready.mkdir()
    (ready / "llama.wasm").write_bytes(wasm)
    (ready / "llama.wasm.json").write_text(description, encoding="utf-8")
    made.mkdir(exist_ok=True)
    for name in (
        "llama.wasm",
        "llama.wasm.json",
    ):  # the description last: it shows that both are complete
        os.replace(ready / name, made / name)


def _copy(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and target.read_bytes() == origin.read_bytes():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(origin, temporary)
    os.replace(temporary, target)


if __name__ == "__main__":
    sys.exit(main())
