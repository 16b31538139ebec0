"""Build llama.wasm and chat.wasm: ``python wasm/build.py [--only NAME] [--output PATH] [--stock]``.

Needs only Python with pip, no compiler. Each result is kept in a per-user cache under a name made from all its
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
from dataclasses import dataclass
from pathlib import Path

import edits
import source
import toolchain
from edits import Edit
from layout import Layout, lay_out
from source import BuildError, cache_folder

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Module:
    """One WebAssembly file and what it is built from.

    Attributes:
        name: ``llama`` or ``chat``.
        output: where it goes in this repository.
        sources: the files of this folder that are compiled, as patterns.
        folder: the folder of its ``CMakeLists.txt`` in this one.
        edits: edits of llama.cpp's own files.
        settings: CMake's settings for a layout.
    """

    name: str
    output: Path
    sources: tuple[str, ...]
    folder: str
    edits: tuple[Edit, ...]
    settings: Callable[[Layout], dict[str, str]]

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.name}.wasm"


def modules(*, stock: bool = False) -> dict[str, Module]:
    """All modules by name."""
    llama = Module(
        name="llama",
        output=ROOT / "backends" / "llama_bridge_wasm" / "llama.wasm",
        sources=("CMakeLists.txt", "stock.cpp", "shim/*", "runtime/*", "kernels/*"),
        folder=".",
        edits=edits.EDITS,
        settings=lambda layout: toolchain.llama_settings(layout, stock=stock),
    )
    chat = Module(
        name="chat",
        output=ROOT / "bridge" / "llama_bridge" / "chat" / "module" / "chat.wasm",
        sources=("chat/*", "runtime/*"),
        folder="chat",
        edits=edits.CHAT_EDITS,
        settings=toolchain.chat_settings,
    )
    return {module.name: module for module in (llama, chat)}


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(modules()), help="build only this one")
    parser.add_argument(
        "--output",
        type=Path,
        help="where to write it; needs --only, otherwise llama.wasm goes there",
    )
    parser.add_argument(
        "--sdist", type=Path, help="llama-cpp-python's source distribution, if you have it"
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="build even if the cache has the result"
    )
    parser.add_argument(
        "--stock", action="store_true", help="llama.wasm with llama.cpp's own kernels, to compare"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("wasm: terminated"))  # clean up, too
    known = modules(stock=options.stock)
    wanted = options.only or ("llama" if options.output or options.stock else None)
    for module in [known[wanted]] if wanted else known.values():
        try:
            build(module, options.output or module.output, options.sdist, rebuild=options.rebuild)
        except BuildError as error:
            print(f"{module.file}: {error}", file=sys.stderr)
            return 1
    return 0


def build(
    module: Module, output: Path, sdist: Path | None = None, *, rebuild: bool = False
) -> None:
    """Write the module to ``output`` and its description to ``output`` + ``.json``.

    Raises:
        BuildError: something is missing or did not compile; the message says what.
    """
    cache = cache_folder()
    inputs = describe_inputs(module)
    made = cache / digest_of(inputs)
    if rebuild or not _is_whole(module, made):
        _compile(module, cache, made, sdist, inputs)
    for ending in ("", ".json"):
        _copy(made / (module.file + ending), output.with_name(output.name + ending))
    print(f"{module.file}: {output} ({output.stat().st_size / 1e6:.2f} MB)", flush=True)


def describe_inputs(module: Module) -> dict[str, object]:
    """Everything that determines the result's bytes: no local path and no time."""
    files = sorted(path for each in module.sources for path in HERE.glob(each) if path.is_file())
    return {
        "llama_cpp_commit": source.LLAMA_CPP_COMMIT,
        "source": {"name": source.PROJECT, "version": source.VERSION, "sha256": source.SHA256},
        "toolchain": toolchain.TOOLS,
        "edits": [[edit.file, edit.old, edit.new] for edit in module.edits],
        "settings": module.settings(Layout(Path("root"))),
        "files": {
            path.relative_to(HERE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        },
    }


def digest_of(inputs: dict[str, object]) -> str:
    """A short name for these inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]


def _is_whole(module: Module, made: Path) -> bool:
    try:
        wasm = (made / module.file).read_bytes()
        description = json.loads((made / f"{module.file}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(description.get("sha256") == hashlib.sha256(wasm).hexdigest())


def _compile(
    module: Module, cache: Path, made: Path, sdist: Path | None, inputs: dict[str, object]
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
                print(f"{module.file}: {text}", flush=True)
                log(f"--- {text}\n")

            phase(f"llama.cpp {source.LLAMA_CPP_COMMIT} (from {source.PROJECT} {source.VERSION})")
            python = toolchain.find_pip(cache)
            sdist = source.fetch(cache, python, sdist, log)
            phase("build tools (zig, cmake, ninja) from PyPI; once per user")
            tools = toolchain.install(cache, python, log)
            phase("configuring")
            layout = lay_out(work, HERE, module.sources, tools.ziglang)
            source.unpack(sdist, layout.llama_cpp)
            edits.apply(layout.llama_cpp, module.edits)
            environment = _environment(layout)
            result = subprocess.run(
                toolchain.cmake_command(
                    tools, layout, layout.sources / module.folder, module.settings(layout)
                ),
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            log(result.stdout)
            if result.returncode != 0:
                raise BuildError("cmake failed")
            phase("compiling; a few minutes, the first time only")
            _run_ninja(module, [str(tools.ninja), "-C", str(layout.build)], environment, log)
        wasm = (layout.build / module.file).read_bytes()
        description = {**inputs, "sha256": hashlib.sha256(wasm).hexdigest(), "size": len(wasm)}
        _publish(module, work, made, wasm, json.dumps(description, indent=2, sort_keys=True) + "\n")
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
    print(f"{module.file}: built in {time.monotonic() - started:.0f} s", flush=True)


def _run_ninja(
    module: Module, command: list[str], environment: dict[str, str], log: Callable[[str], None]
) -> None:
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
                shown = _show_progress(module, int(step[1]), int(step[2]), shown)
        if process.wait() != 0:
            raise BuildError("compiling failed")
    finally:
        process.terminate()  # if interrupted: otherwise it goes on compiling alone
        process.wait()
        if sys.stdout.isatty():
            print(flush=True)


def _show_progress(module: Module, done: int, total: int, shown: int) -> int:
    percent = 100 * done // total
    text = f"{module.file}: {percent:3d} % ({done} of {total} files)"
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


def _publish(module: Module, work: Path, made: Path, wasm: bytes, description: str) -> None:
    ready = work / "ready"
    ready.mkdir()
    (ready / module.file).write_bytes(wasm)
    (ready / f"{module.file}.json").write_text(description, encoding="utf-8")
    made.mkdir(exist_ok=True)
    # the description last: it shows that both are complete
    for ending in ("", ".json"):
        os.replace(ready / (module.file + ending), made / (module.file + ending))


def _copy(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and target.read_bytes() == origin.read_bytes():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(origin, temporary)
    os.replace(temporary, target)


if __name__ == "__main__":
    sys.exit(main())
