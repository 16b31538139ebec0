"""Edits of llama.cpp's own files before they are compiled: few, and checked.

Each edit has the text it replaces. If that text is not found exactly once, the source has changed, and the build stops
so that somebody looks.
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
        file: path below llama.cpp's folder.
        old: text that occurs in it once.
        new: its replacement.
        why: the reason, in one sentence.
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
        BuildError: a file or a text is missing, or the text occurs twice.
    """
    for edit in edits:
        path = llama_cpp / edit.file
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise BuildError(f"llama.cpp no longer has {edit.file}: see wasm/edits.py") from error
        if (found := text.count(edit.old)) != 1:
            raise BuildError(
                f"{edit.file} must contain this text of wasm/edits.py once, but has it {found} times "
                f"({edit.why}):\n{edit.old}"
            )
        path.write_bytes(text.replace(edit.old, edit.new).encode())
