"""The folder of a build. Whatever can affect the result is the same in every build.

``-ffile-prefix-map`` shortens paths in assertion messages. The rest was found the hard way: LLVM places the
handlers of WebAssembly exceptions in the order of addresses in its own heap, which depends on the lengths of
its command-line strings. So everything on a command line is below one root, whose path has the same length on
every machine.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout", "lay_out"]

_ROOT_LENGTH = 160


@dataclass(frozen=True)
class Layout:
    """The paths of a build, all below ``root``."""

    root: Path

    @property
    def sources(self) -> Path:
        """A copy of the module's own sources."""
        return self.root / "wasm"

    @property
    def llama_cpp(self) -> Path:
        """llama.cpp's source."""
        return self.root / "llama.cpp"

    @property
    def build(self) -> Path:
        """CMake's build folder."""
        return self.root / "build"

    @property
    def zig(self) -> Path:
        """The compiler. It looks for its library in ``lib`` beside it."""
        return self.root / "zig" / ("zig.exe" if os.name == "nt" else "zig")

    @property
    def zig_cache(self) -> Path:
        """Zig's cache between its calls."""
        return self.root / "zig-cache"


def lay_out(work: Path, here: Path, sources: tuple[str, ...], ziglang: Path) -> Layout:
    """Make the root below ``work``, with the ``sources`` (patterns) from ``here`` and the compiler from ``ziglang``.

    On Windows, and below a very long path, the length is not fixed: the build works, but a function or two
    may have other bytes.
    """
    padding = _ROOT_LENGTH - len(os.fsencode(work)) - 1
    layout = Layout(work / ("_" * padding) if padding > 0 and os.name != "nt" else work)
    for pattern in sources:
        for path in here.glob(pattern):
            target = layout.sources / path.relative_to(here)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    layout.zig.parent.mkdir(parents=True)
    try:
        os.link(ziglang / layout.zig.name, layout.zig)
        os.symlink(ziglang / "lib", layout.zig.parent / "lib", target_is_directory=True)
    except OSError:  # another file system, or one without links
        shutil.copy2(ziglang / layout.zig.name, layout.zig)
        shutil.copytree(ziglang / "lib", layout.zig.parent / "lib")
    return layout
