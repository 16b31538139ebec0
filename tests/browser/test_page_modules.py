"""What the chat application makes of what a model writes: its module in Chromium, without a host."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from playwright.sync_api import BrowserContext, Page

from tools.browser.server import CSP, serve

from .hostile import HOSTILE
from .hostile import LOADS_OR_RUNS as ANYWHERE

pytestmark = pytest.mark.slow

LOADS_OR_RUNS = ANYWHERE.replace("svg", ":not(button) > svg")  # buttons have pictures
APP = Path(__file__).parents[2] / "app"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module that shows Markdown, and an empty page beside it."""
    found = spec_from_file_location("app_build", APP / "build.py")
    assert found is not None
    assert found.loader is not None
    build = module_from_spec(found)
    found.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("modules")
    (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
    build.bundle(APP / "src" / "markdown.mjs", folder)
    return folder


@pytest.fixture
def empty(context: BrowserContext, modules: Path) -> Iterator[Open]:
    """Opens the empty page, as a server with this Content-Security-Policy sends it."""
    with serve(modules) as strict, serve(modules, csp="") as lax:

        def open_it(csp: str = CSP) -> Page:
            page = context.new_page()
            page.goto((strict if csp else lax) + "empty.html")
            return page

        yield open_it


@pytest.fixture
def blank(empty: Open) -> Page:
    return empty()


SHOW = """async (texts) => {
    const { show } = await import("./markdown.js");
    for (const text of texts) show(document.body.appendChild(document.createElement("article")), text);
}"""


@pytest.mark.parametrize("csp", [CSP, ""], ids=["CSP", "no CSP"])
def test_what_a_hostile_model_writes_is_shown_and_does_nothing(empty: Open, csp: str) -> None:
    page = empty(csp)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("() => { self.pwned = () => { self.harmed = true; }; }")
    page.evaluate(SHOW, HOSTILE)
    shown = page.locator("article")
    assert shown.locator(LOADS_OR_RUNS).count() == 0
    for given, text in zip(HOSTILE, shown.all_inner_texts(), strict=True):
        assert text.strip()
        if given.startswith("<") and "javascript:pwned()>" not in given:
            assert text.split() == given.split(), "HTML is shown as it was written"
    for link in shown.locator("a").all():
        href = link.get_attribute("href")
        assert href is None or href.startswith("https://"), href
        assert (link.get_attribute("rel") or "").startswith("noopener") == (href is not None)
    attributes = page.evaluate(
        """() => [...document.querySelectorAll("article > div *:not(button, button *)")]
            .flatMap((element) => element.getAttributeNames())"""
    )
    assert set(attributes) <= {
        *("class", "href", "target", "rel", "title", "align"),
        *("dir", "tabindex"),  # of blocks of code, and of tables
    }
    page.wait_for_timeout(200)
    assert page.evaluate("() => self.harmed") is None
    assert [url for url in asked if not url.endswith("js")] == []


def test_the_second_fence_holds_without_the_first(empty: Open) -> None:
    page = empty("")
    page.evaluate(
        """async (html) => {
            self.pwned = () => { self.harmed = true; };
            const { clean } = await import("./markdown.js");
            document.body.append(clean(html));
        }""",
        " ".join(each for each in HOSTILE if each.startswith("<")),
    )
    page.wait_for_timeout(200)
    assert page.evaluate("() => self.harmed") is None
    assert page.locator("body").locator(LOADS_OR_RUNS).count() == 0


def test_markdown_is_shown_as_such_and_code_can_be_copied(
    blank: Page, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    code = 'print("a < b && c")\n'
    text = f"""# A title

Some **bold** words
and a [link](https://example.org)

```python
{code}```

1. one
2. two

| a | b |
|---|--:|
| 1 | 2 |

- [x] done
"""
    blank.evaluate(SHOW, [text])
    answer = blank.locator("article")
    for tag, words in {"h1": "A title", "strong": "bold", "a": "link", "td >> nth=1": "2"}.items():
        assert answer.locator(tag).inner_text() == words
    assert answer.locator("ol li").all_inner_texts() == ["one", "two"]
    assert answer.locator("pre").inner_text().rstrip() == code.rstrip()
    assert "☑ done" in answer.inner_text()
    answer.get_by_role("button", name="Copy this code").click()
    blank.locator(".copy.done").wait_for()
    assert blank.evaluate("async () => await navigator.clipboard.readText()") == code.rstrip()


def test_an_answer_that_grows_ends_as_if_it_had_come_at_once(blank: Page) -> None:
    text = "Some *words*\n\n1. one\n\n   ```\n   code\n   ```\n2. two\n\n[a link][1]\n\n[1]: https://example.org\n"
    grown, whole, kept = blank.evaluate(
        """async (text) => {
            const { show } = await import("./markdown.js");
            const [grown, whole] = [0, 1].map(() => document.createElement("div"));
            show(grown, text.slice(0, 20));
            document.body.append(grown);
            getSelection().selectAllChildren(grown.firstChild);
            for (let i = 21; i < 60; i++) show(grown, text.slice(0, i));
            const kept = String(getSelection()) === "Some words";
            for (let i = 60; i <= text.length; i++) show(grown, text.slice(0, i));
            show(whole, text);
            return [grown.innerHTML, whole.innerHTML, kept];
        }""",
        text,
    )
    assert grown == whole
    assert 'href="https://example.org"' in whole
    assert kept, "what is selected in a finished block stays selected"


SLOW = (
    *("> ", "- ", "1. ", "# ", "[", "[[a]", "[a](", "![](", "*a ", "**a", "***a", "a*", "_a__"),
    *("*a_", "~~a", "`", "`a", "<", "<a@", "a@", "https://", "&#", "\\", "|-|\n", "a\n", "a\n\n"),
)


def test_no_answer_keeps_the_page_busy(blank: Page) -> None:
    took = blank.evaluate(
        """async (texts) => {
            const { show } = await import("./markdown.js");
            return texts.map((text) => {
                const start = performance.now();
                show(document.createElement("div"), text);
                return performance.now() - start;
            });
        }""",
        [part * (20_000 // len(part)) for part in SLOW],
    )
    # Some 50 on an idle machine. Without care, the slowest takes ten seconds.
    assert {part: ms for part, ms in zip(SLOW, took, strict=True) if ms > 2000} == {}


ROW = "|" + "a|" * 30 + "\n"
BOMBS = {
    "a table": ROW + "|-" * 30 + "|\n" + ROW * 3000,
    "links": "https://example.org/a " * 20_000,
    "struck out": "~a~~b " * 8000,
    "a word": "a_" * 20_000,
    "indentation": " " * 30_000 + "x",
    "rules": "---\n" * 20_000,
    "a megabyte": "word **bold** [a](b)\n" * 50_000,
    "a line": "x" * 1_000_000,
}


def test_no_answer_holds_up_the_page_while_it_grows(blank: Page) -> None:
    """A table of 90,000 cells took five seconds, and each piece that was added to it as long again."""
    took = blank.evaluate(
        """async (texts) => {
            const { show } = await import("./markdown.js");
            return Object.entries(texts).map(([name, text]) => {
                const place = document.body.appendChild(document.createElement("article"));
                const times = [0.2, 0.6, 0.999, 1].map((share) => {
                    const start = performance.now();
                    show(place, text.slice(0, share * text.length));
                    place.offsetHeight; // lays it out
                    return performance.now() - start;
                });
                const said = place.textContent.replace(/This is too much.*/, "").length;
                place.remove();
                return [name, Math.max(...times), said / text.length];
            });
        }""",
        BOMBS,
    )
    # Some 100 on an idle machine. Without bounds, each but the last takes one to eight seconds.
    assert {name: ms for name, ms, _ in took if ms > 800} == {}
    whole = {name: share for name, _, share in took}
    assert min(whole["a table"], whole["links"], whole["a megabyte"], whole["a line"]) > 0.5


def test_what_is_too_much_for_markdown_stays_text_until_somebody_wants_it(blank: Page) -> None:
    text = "# A title\n\n" + ROW + "|-" * 30 + "|\n" + ROW * 120 + "\nThe **end**\n"
    blank.evaluate(SHOW, [text])
    answer = blank.locator("article")
    assert answer.locator("h1").inner_text() == "A title"
    assert answer.locator("strong").inner_text() == "end"
    assert answer.locator("table").count() == 0
    assert answer.locator(".plain").first.inner_text().startswith("|a|a|")
    answer.get_by_role("button", name="Show more of it as Markdown").click()
    assert answer.locator("tbody tr").count() == 120
    assert answer.get_by_role("button", name="Show more").count() == 0
    assert answer.locator(".plain").count() == 0
