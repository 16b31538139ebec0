"""The notebook of the examples, run in a kernel of its own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "examples" / "notebook.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("native_backend")]


def read(path: Path = PATH) -> Any:
    nbformat: Any = importlib.import_module("nbformat")  # its types are half there
    return nbformat.read(path, as_version=4)


def codes(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    """All forms of all that a cell shows."""
    said: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            said.append(output.text)
            continue
        assert output.output_type in ("display_data", "execute_result"), output
        said += output.data.values()
    return "\n".join(said)


def test_it_was_run_from_top_to_bottom_before_it_was_kept() -> None:
    cells = codes(read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(shown(cell) for cell in cells)
    assert not re.search(r"(?<!<)/(home|root|tmp|Users)\b|[A-Z]:\\\\", PATH.read_text("utf-8"))


RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=60).execute(cwd=".")
nbformat.write(notebook, "executed.ipynb")
"""


def test_it_runs_and_shows_what_it_showed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(PATH)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for before, cell in zip(
        codes(read(PATH)), codes(read(tmp_path / "executed.ipynb")), strict=True
    ):
        assert same(shown(cell)) == same(shown(before))
    assert [path.name for path in tmp_path.iterdir()] == ["executed.ipynb"]


def same(text: str) -> str:
    """What a cell shows, without what differs from machine to machine."""
    text = re.sub(r"[\d,]+ tokens/s", "fast", text)
    return re.sub(r"0x[0-9a-f]+", "somewhere", text)
