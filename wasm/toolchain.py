"""The pinned compiler and build tools, all from PyPI, and every flag that the modules are built with.

zig is clang with the WASI C library and the sources of the C++ runtime, so you need no other compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from layout import Layout
from source import LLAMA_CPP_COMMIT, BuildError, pip_environment

TOOLS = {"ziglang": "0.17.1", "cmake": "4.4.4", "ninja": "1.13.2"}

CLANG_VERSION = "22.1.8"
"""From ``zig c++ --version``."""

_CPU_FEATURES = (
    "simd128",
    "exception_handling",
    "bulk_memory",
    "nontrapping_fptoint",
    "sign_ext",
    "mutable_globals",
    "multivalue",
    "reference_types",
    "atomics",
)
_RELAXED = "relaxed_simd"
"""Only for the files that need its product. Elsewhere clang would use relaxed minimum, maximum and conversion instead of
the ordinary ones; their results for NaN and infinity depend on the CPU."""
_WASI_EMULATED = ("MMAN", "SIGNAL", "PROCESS_CLOCKS", "GETPID")

_THREADS_AND_SIMD = ("simd128", "atomics")

_CPU = "-mcpu=generic+" + "+".join(_CPU_FEATURES)
"""The only way to give zig features: it ignores -msimd128 and the like. If there are two, the last one counts."""

COMMON_FLAGS = (
    "-target wasm32-wasi",
    _CPU,
    # For thread-local variables and real atomic operations, also in the C library that zig builds.
    "-pthread",
    # zig adds undefined-behaviour traps by default.
    "-fno-sanitize=undefined",
    # Otherwise a * b + c becomes relaxed_madd, which is fused on some CPUs only.
    "-ffp-contract=off",
    # For C too: exceptions pass through ggml's C code on their way to the shim.
    "-fwasm-exceptions",
    # The standard encoding (exnref). wasmtime refuses the legacy one.
    "-mllvm -wasm-use-legacy-eh=false",
    *(f"-D_WASI_EMULATED_{name}" for name in _WASI_EMULATED),
)
CXX_FLAGS = (
    "-fexceptions",
    # zig sets libc++ up for WASI without threads and files, but llama.cpp includes <thread>, <mutex>,
    # <fstream> and <filesystem>. Its threads are POSIX threads: runtime/threads.c.
    "-U_LIBCPP_HAS_THREADS -D_LIBCPP_HAS_THREADS=1 -D_LIBCPP_HAS_THREAD_API_PTHREAD=1",
    "-U_LIBCPP_HAS_FILESYSTEM -D_LIBCPP_HAS_FILESYSTEM=1",
)
OPTIMISATION = "-O2 -DNDEBUG"  # ggml gets -O3 in CMakeLists.txt
CHAT_OPTIMISATION = (
    "-Os -DNDEBUG"  # -O2 is 0.4 MB more for 8 % of speed; Jinja gets it in chat/CMakeLists.txt
)
LINK_FLAGS = (
    "-mexec-model=reactor",  # `_initialize` instead of `main`
    "-nostdlib++",  # the C++ runtime is built here, with exceptions
    # The host provides it and all threads share it; a host without threads clears one bit (linear_memory.py).
    "-Wl,--import-memory,--export-memory,--shared-memory",
    "-Wl,--max-memory=4294901760",  # 4 GiB minus a page, whose end has no address
    "-s",  # no names, no debug information
)
_CHAT_CPU = "-mcpu=generic+" + "+".join(
    feature for feature in _CPU_FEATURES if feature not in _THREADS_AND_SIMD
)
CHAT_FLAGS = (
    *(
        _CHAT_CPU if flag == _CPU else flag
        for flag in COMMON_FLAGS
        if flag not in ("-pthread", "-ffp-contract=off")
    ),
    "-ffunction-sections -fdata-sections",
)
CHAT_LINK_FLAGS = (
    "-mexec-model=reactor",
    "-nostdlib++",
    "-Wl,--gc-sections",
    "-Wl,-z,stack-size=1048576",
    "-Wl,--max-memory=268435456",  # 256 MiB: a template has no use for more
    "-s",
)


@dataclass(frozen=True)
class Tools:
    """Paths of the build tools; ``ziglang`` is the folder of the compiler and its library."""

    ziglang: Path
    cmake: Path
    ninja: Path


def find_pip(cache: Path) -> str:
    """A Python with pip: this one, or one in a new virtual environment."""
    environment = pip_environment()
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, env=environment
    )
    if asked.returncode == 0:
        return sys.executable
    folder = cache / f"pip-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        result = subprocess.run(
            [sys.executable, "-m", "venv", str(folder)],
            capture_output=True,
            text=True,
            env=environment,
        )
        if result.returncode != 0:
            raise BuildError(
                f"{sys.executable} has no pip and cannot make a virtual environment with one:\n"
                f"{(result.stderr or result.stdout).strip()}\n"
                "Install pip (on Debian and Ubuntu: apt install python3-venv) and try again."
            )
    return str(python)


def install(cache: Path, python: str, log: Callable[[str], None]) -> Tools:
    """Install the pinned tools into the cache, once for all builds."""
    folder = cache / ("tools-" + "-".join(f"{name}{version}" for name, version in TOOLS.items()))
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=cache, prefix="tools-"))
        try:
            command = [python, "-m", "pip", "install", "--only-binary", ":all:", "--no-deps"]
            command += ["--target", str(temporary / "t"), "--disable-pip-version-check"]
            command += [f"{name}=={version}" for name, version in TOOLS.items()]
            result = subprocess.run(command, capture_output=True, text=True, env=pip_environment())
            log(result.stdout + result.stderr)
            if result.returncode != 0:
                raise BuildError(f"pip could not install the build tools:\n{result.stderr.strip()}")
            if not folder.is_dir():  # another build may have been faster
                os.rename(temporary / "t", folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    exe = ".exe" if os.name == "nt" else ""
    tools = Tools(
        ziglang=folder / "ziglang",
        cmake=folder / "cmake" / "data" / "bin" / f"cmake{exe}",
        ninja=folder / "bin" / f"ninja{exe}",
    )
    for path in (tools.ziglang, tools.cmake, tools.ninja):
        if not path.exists():
            raise BuildError(f"{path} is missing. Delete {folder} and build again.")
    return tools


def cmake_command(
    tools: Tools, layout: Layout, folder: Path, settings: dict[str, str]
) -> list[str]:
    """The command line that configures the build of the ``CMakeLists.txt`` in ``folder``."""
    command = [str(tools.cmake), "-G", "Ninja", "-S", str(folder), "-B", str(layout.build)]
    settings = {**settings, "CMAKE_MAKE_PROGRAM": _slashes(tools.ninja)}
    return command + [f"-D{name}={value}" for name, value in settings.items()]


def llama_settings(layout: Layout, *, stock: bool = False) -> dict[str, str]:
    """CMake's settings for llama.wasm; they determine the result."""
    return {
        **_settings(layout, COMMON_FLAGS, OPTIMISATION, LINK_FLAGS),
        # ggml chooses its WebAssembly kernels by this.
        "CMAKE_SYSTEM_PROCESSOR": "wasm32",
        # Whether libc has pthreads; a static library cannot find out.
        "CMAKE_HAVE_LIBC_PTHREAD": "1",
        # A git checkout around the build folder is not llama.cpp's; its commit must not get in.
        "CMAKE_DISABLE_FIND_PACKAGE_Git": "ON",
        "GIT_EXE": "OFF",
        "GGML_CCACHE": "OFF",
        "LLAMA_BUILD_COMMIT": LLAMA_CPP_COMMIT,
        "LLAMA_BUILD_NUMBER": "0",
        "LB_RELAXED_CPU": f"{_CPU}+{_RELAXED}",
        **({"LB_STOCK": "ON"} if stock else {}),
    }


def chat_settings(layout: Layout) -> dict[str, str]:
    """CMake's settings for chat.wasm."""
    return _settings(layout, CHAT_FLAGS, CHAT_OPTIMISATION, CHAT_LINK_FLAGS)


def _settings(
    layout: Layout, flags: tuple[str, ...], optimisation: str, link_flags: tuple[str, ...]
) -> dict[str, str]:
    common = [*flags, f'"-ffile-prefix-map={_slashes(layout.root)}/="']
    return {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_SYSTEM_NAME": "WASI",
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_C_COMPILER": f"{_slashes(layout.zig)};cc",
        "CMAKE_CXX_COMPILER": f"{_slashes(layout.zig)};c++",
        # Set here, because cmake would link programs to find out. For them zig would compile its C library without
        # optimisation, and its own C++ runtime: a minute.
        "CMAKE_C_COMPILER_ID_RUN": "1",
        "CMAKE_C_COMPILER_ID": "Clang",
        "CMAKE_C_COMPILER_VERSION": CLANG_VERSION,
        "CMAKE_C_STANDARD_COMPUTED_DEFAULT": "17",
        "CMAKE_C_EXTENSIONS_COMPUTED_DEFAULT": "ON",
        "CMAKE_CXX_COMPILER_ID_RUN": "1",
        "CMAKE_CXX_COMPILER_ID": "Clang",
        "CMAKE_CXX_COMPILER_VERSION": CLANG_VERSION,
        "CMAKE_CXX_STANDARD_COMPUTED_DEFAULT": "17",
        "CMAKE_CXX_EXTENSIONS_COMPUTED_DEFAULT": "ON",
        "CMAKE_C_FLAGS": " ".join(common),
        "CMAKE_CXX_FLAGS": " ".join([*common, *CXX_FLAGS]),
        "CMAKE_C_FLAGS_RELEASE": optimisation,
        "CMAKE_CXX_FLAGS_RELEASE": optimisation,
        "CMAKE_EXE_LINKER_FLAGS": " ".join(link_flags),
        "LLAMA_CPP_DIR": _slashes(layout.llama_cpp),
        "ZIG_LIB_DIR": _slashes(layout.zig.parent / "lib"),
        "ZIG": _slashes(layout.zig),
    }


def _slashes(path: Path) -> str:
    """CMake needs forward slashes, even on Windows."""
    return path.as_posix()
