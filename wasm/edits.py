"""What is changed in llama.cpp's own files before they are compiled: little, and checked.

Each edit names the text it replaces. Where that text is not found exactly once, the source has moved on, and the build
stops: somebody has to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from source import BuildError

__all__ = ["EDITS", "Edit", "apply"]


@dataclass(frozen=True)
class Edit:
    """One replacement.

    Attributes:
        file: below llama.cpp's folder.
        old: text that occurs there once.
        new: what takes its place.
        why: one sentence.
    """

    file: str
    old: str
    new: str
    why: str


EDITS = (
    Edit(
        "ggml/src/ggml-cpu/ggml-cpu.c",
        "#if defined(__wasi__)\n    // WASI doesn't support parallelism yet\n    n_threads = 1;\n#endif\n",
        "",
        "runtime/threads.c is the parallelism that WASI does not have",
    ),
    Edit(
        "ggml/src/ggml-cpu/ggml-cpu.c",
        "#else\nstatic inline void ggml_thread_cpu_relax(void) {;}\n#endif",
        "#else\nvoid ggml_thread_cpu_relax(void);\n#endif",
        "a thread that spins must end when another one has trapped: runtime/threads.c",
    ),
)


def apply(llama_cpp: Path, edits: tuple[Edit, ...] = EDITS) -> None:
    """Make the edits in an unpacked source.

    Raises:
        BuildError: a file or a text is not there, or the text is there twice.
    """
    for edit in edits:
        path = llama_cpp / edit.file
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise BuildError(f"llama.cpp has no {edit.file} any more: see wasm/edits.py") from error
        if (found := text.count(edit.old)) != 1:
            raise BuildError(
                f"{edit.file} has {found} times instead of once what wasm/edits.py replaces "
                f"({edit.why}):\n{edit.old}"
            )
        path.write_bytes(text.replace(edit.old, edit.new).encode())
