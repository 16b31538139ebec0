"""``make docs``: the site is built without a warning, leads nowhere wrong, and asks no other host for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import llama_bridge
from llama_bridge import testing

from .pages import DOCS, ROOT

if sys.platform == "emscripten":
    pytest.skip("a page has no documentation", allow_module_level=True)

pytestmark = pytest.mark.slow

LEFT_OUT = {"__version__", "Answer", "Answers", "FakeEngine"}
"""Public names that need no entry in the reference: a number, and what signatures spell out."""


@dataclass
class Page(HTMLParser):
    """What a page refers to.

    Attributes:
        ids: what can be jumped to.
        links: what a person may follow.
        needs: what the browser fetches by itself.
    """

    ids: set[str] = field(default_factory=set[str])
    links: set[str] = field(default_factory=set[str])
    needs: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src", "data"):
            if name in given:
                (self.links if tag == "a" else self.needs).add(given[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-W",
        "--keep-going",
        DOCS,
        folder,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page() for path in site.rglob("*.html")}
    for path, page in found.items():
        page.feed(path.read_text(encoding="utf-8"))
    assert len(found) > 20
    return found


def test_no_internal_link_is_broken(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links | page.needs:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name}: {link}"


def test_it_works_without_a_network(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for need in page.needs:
            parts = urlsplit(need)
            assert parts.scheme in ("", "data"), f"{path.name}: {need}"
            assert not parts.netloc, f"{path.name}: {need}"
    for style in site.rglob("*.css"):
        fetched = re.findall(
            r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", style.read_text("utf-8")
        )
        assert not [each for each in fetched if urlsplit(each[0] or each[1]).netloc], style


def documented(pages: dict[Path, Page]) -> Iterator[str]:
    for page in pages.values():
        yield from page.ids


def test_the_reference_has_every_public_name(pages: dict[Path, Page]) -> None:
    there = set(documented(pages))
    wanted = {f"llama_bridge.{name}" for name in set(llama_bridge.__all__) - LEFT_OUT}
    wanted |= {f"llama_bridge.testing.{name}" for name in set(testing.__all__) - LEFT_OUT}
    assert wanted <= there, f"give them an entry in docs/reference: {sorted(wanted - there)}"


def test_calls_show_their_types_and_errors(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference/bridge.html").read_text(encoding="utf-8"))
    call = text[text.index("generate(") : text.index("generate_continue(")]
    assert "Sequence[str]" in call
    assert "ContextOverflow" in call[call.index("Raises") :]


def test_no_words_are_taken_for_a_type(site: Path) -> None:
    for path in site.rglob("*.html"):
        found = re.findall(
            r'>(?:Type|Return type)<span class="colon">:</span></dt>\s*<dd[^>]*>(.*?)</dd>',
            path.read_text(encoding="utf-8"),
            re.S,
        )
        assert not found, (
            f"{path.name}: {found}: a colon in the first line of a docstring's section"
        )


def test_no_error_stands_there_without_words(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not re.search(r"</strong></a> –\s*</p>", path.read_text(encoding="utf-8")), path


def test_the_help_of_each_command_is_there(site: Path) -> None:
    text = (site / "command-line.html").read_text(encoding="utf-8")
    for command in ("demo", "chat", "run", "info", "doctor", "session info", "session verify"):
        assert f"llama-bridge {command} --help" in re.sub(r"<[^>]+>", "", text)
