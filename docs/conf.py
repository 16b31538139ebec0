"""Sphinx makes the documentation a site: ``make docs``. It needs no network, and a warning is an error."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective

import llama_bridge
from llama_bridge.cli.app import app as command_line

with mock(["js", "pyodide"]):  # what only a page has
    from llama_bridge_wasm.store import errors as store_errors

PICTURES = Path(__file__).resolve().parents[1] / "build" / "pictures"
"""Where the tests put the screenshots that they take."""

project = "llama-bridge"
copyright = "the llama-bridge founders"
release = version = llama_bridge.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

html_theme = "furo"
html_title = f"llama-bridge {release}"
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 3

# In a signature a type is a name; each setting has a line of its own.
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_mock_imports = ["js", "pyodide"]  # what only a page has
napoleon_use_ivar = True

_SEVERAL = re.compile(r"( +)(\w+(?:, \w+)+)(\.|: .*)")
_ERROR = re.compile(r"( +)([A-Z]\w+)\.?")
_COLON = "\ue000"
"""In the first line about an attribute, where napoleon takes what precedes a colon for a type."""


def one_name_a_line(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Give each name in ``Raises: A, B.`` or ``Attributes: a, b: words`` an entry of its own.

    Napoleon takes several for one. An error without words gets its own first sentence.
    """
    if what in ("attribute", "data", "property") and lines:
        lines[0] = lines[0].replace(":", _COLON)
    entries: list[str] = []
    section = ""
    while lines:
        line = lines.pop(0)
        section = line if re.fullmatch(r"[A-Z]\w+:", line) else section
        several = _SEVERAL.fullmatch(line) if section else None
        indent, names, words = several.groups() if several else ("", "", "")
        if several and (section == "Raises:" or words != "."):
            more: list[str] = []
            while lines and lines[0].startswith(indent + " "):
                more.append(lines.pop(0))
            for name in names.split(", "):
                entries += [f"{indent}{name}{words}", *more]
        else:
            entries.append(line)
    raises = False
    for entry in entries:
        raises = entry == "Raises:" or (raises and (not entry or entry.startswith(" ")))
        bare = _ERROR.fullmatch(entry) if raises else None
        lines.append(f"{bare[1]}{bare[2]}: {meaning(bare[2])}" if bare else entry)


def colons_again(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """What :func:`one_name_a_line` has hidden from napoleon."""
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def meaning(error: str) -> str:
    """The first sentence of an error's docstring."""
    found = getattr(llama_bridge, error, None) or getattr(store_errors, error)
    return (inspect.getdoc(found) or "").partition("\n")[0]


class CommandHelp(SphinxDirective):
    """What a command of the command line says of itself."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Ask the command."""
        words = [*" ".join(self.arguments).split(), "--help"]
        result = CliRunner().invoke(
            command_line, words, prog_name="llama-bridge", terminal_width=88, catch_exceptions=False
        )
        if result.exit_code:
            raise self.error(f"llama-bridge {' '.join(words)}: {result.output}")
        shown = f"$ llama-bridge {' '.join(words)}\n{result.output}"
        return [nodes.literal_block(shown, shown, language="text")]


class Picture(SphinxDirective):
    """A screenshot with its caption; where the tests could not take it, only the caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Look for the picture."""
        caption = " ".join(self.content)
        path = PICTURES / self.arguments[0]
        if not path.is_file():
            words = f"{caption} (No picture: the test that takes it was skipped on this machine.)"
            return [nodes.paragraph(words, words)]
        here = Path(self.env.doc2path(self.env.docname)).parent
        image = nodes.image(uri=Path(os.path.relpath(path, here)).as_posix(), alt=caption)
        return [nodes.figure("", image, nodes.caption(caption, caption))]


def setup(app: Sphinx) -> dict[str, Any]:
    """What this documentation needs beyond Sphinx's own."""
    app.connect("autodoc-process-docstring", one_name_a_line, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", colons_again, priority=600)  # and after it
    app.add_directive("command-help", CommandHelp)
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True}
