"""What the tests of pages share: the right to be left out outside CI, and a page to visit.

Playwright and what needs it are imported by the fixtures: the other tests here run without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

    from .person import Person
    from .programmer import Programmer
    from .visiting import Visit


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Skips a test for want of something; in CI nothing may be missing."""

    def tell(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(what, pytrace=False)
        pytest.skip(what)

    return tell


# the example page, in Chromium


@pytest.fixture(scope="session")
def tiny() -> Path:
    from tools.random_model import TINY, cached_model

    return cached_model(**TINY)


@pytest.fixture(scope="session")
def slow() -> Path:
    """A prompt of some thousand tokens keeps it busy for seconds."""
    from tools.random_model import cached_model

    shape = {"n_layer": 8, "n_embd": 512, "n_head": 8, "n_head_kv": 4, "n_ff": 2048}
    return cached_model(vocab="llama-spm", quantization="q8_0", **shape)


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, tiny: Path, missing: Callable[[str], None]
) -> Path:
    from tools.browser import fetch
    from tools.browser.site import lay_out

    from .visiting import DEMO, EXAMPLE

    folder = tmp_path_factory.mktemp("site")
    try:
        lay_out(folder, extra=[EXAMPLE, Path(__file__).with_name("python.mjs")], compiled=True)
    except fetch.FetchError as error:
        missing(str(error))
    (folder / "nothing.html").write_text("<!doctype html><title>Nothing</title>")
    models = folder / "models"
    models.mkdir()
    whole = tiny.read_bytes()
    (models / "tiny.gguf").write_bytes(whole)
    (models / "demo-copy.gguf").write_bytes(DEMO.read_bytes())
    (models / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (models / "page.gguf").write_text("<!doctype html><title>Not found</title>")
    return folder


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    from tools.browser.server import serve

    from .visiting import SpoiltHandler

    with serve(site, handler=SpoiltHandler) as found:
        yield found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="session")
def browser(playwright: Playwright, missing: Callable[[str], None]) -> Iterator[Browser]:
    from tools.browser import browsers

    from .visiting import ARGUMENTS

    program = browsers.find("chromium")
    if program is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium")

    browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=60_000)
    yield browser
    browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    from .visiting import DESKTOP

    context = browser.new_context(viewport=DESKTOP)
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext, address: str) -> Iterator[Visit]:
    from .person import Person

    people: list[Person] = []

    def come(where: str = address) -> Person:
        people.append(Person(context, where))
        return people[-1]

    yield come
    for person in people:
        person.check()


@pytest.fixture
def person(visit: Visit) -> Person:
    return visit()


@pytest.fixture(scope="module")
def seats() -> list[Person]:
    """The page that the tests of a file use one after another: Python takes seconds to start in each new one."""
    return []


@pytest.fixture
def guest(browser: Browser, address: str, seats: list[Person]) -> Iterator[Person]:
    """Someone in front of that page, with nothing said and no model kept; a model may be loaded."""
    from .person import Person
    from .visiting import DESKTOP

    if not seats:
        seats.append(Person(browser.new_context(viewport=DESKTOP), address))
    person = seats.pop()
    person.start_over()
    yield person
    person.check()
    seats.append(person)  # one that is not whole any more is not used again


@pytest.fixture(scope="module")
def programmer(browser: Browser, address: str) -> Iterator[Programmer]:
    """Someone who runs programs, for the tests of a file: Python takes seconds to start."""
    from .programmer import Programmer

    with browser.new_context() as context:
        yield Programmer(context, address)
