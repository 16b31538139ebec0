"""A new version of the page is put where an older one was, on a server whose files browsers may keep for a while."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)

from tools.browser.server import serve

from .visiting import PlainHandler, Visit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.slow

MARKED = {
    "app/page.js": 'console.log("{}");',
    "worker.mjs": 'console.log("{}");',
    "chat.py": 'js.console.log("{}")',
    "index.html": "<!-- {} -->",
}
LOGGING = ("app/page.js", "chat.py", "worker.mjs")


class Versions:
    """A copy of the page's files in which each says to the console of which version it is."""

    def __init__(self, site: Path, folder: Path) -> None:
        self._site, self._folder = site, folder
        for path in site.rglob("*"):
            if path.is_file():
                link = folder / path.relative_to(site)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)

    def deploy(self, version: int) -> None:
        for name, says in MARKED.items():
            code = (self._site / name).read_text()
            self._put(name, f"{code}\n{says.format(f'{name} {version}')}\n", version)
        wheels = json.loads((self._site / "wheels.json").read_text())
        memory, files = wheels["started"]
        own = f"pyodide/llama_bridge-{version:016x}.bin"
        (self._folder / own).symlink_to(self._site / files)
        self._put("wheels.json", json.dumps(wheels | {"started": [memory, own]}), version)

    def _put(self, name: str, text: str, version: int) -> None:
        path = self._folder / name
        path.unlink()
        path.write_text(text)
        os.utime(path, (1e9 + version * 10, 1e9 + version * 10))


class Server(PlainHandler):
    """Browsers may take its files from their own cache for ten minutes."""

    def send_header(self, keyword: str, value: str) -> None:
        super().send_header(keyword, "max-age=600" if keyword == "Cache-Control" else value)


def test_after_a_deploy_all_files_of_a_visit_are_of_one_version(
    context: BrowserContext, visit: Visit, site: Path, tmp_path: Path
) -> None:
    """The browser's own cache had some of the older ones, and the page had new ones beside them."""
    told: list[str] = []
    context.on("console", lambda message: told.append(message.text))
    versions = Versions(site, tmp_path)

    def starts(version: int) -> None:
        person.until(lambda: any(text.startswith("chat.py") for text in told))
        person.here()
        assert sorted(told) == [f"{name} {version}" for name in LOGGING]
        told.clear()

    with serve(tmp_path, handler=Server) as address:
        versions.deploy(1)
        person = visit(address)
        starts(1)
        person.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
        person.page.reload()
        starts(1)
        versions.deploy(2)
        person.page.reload()
        starts(2)
        kept = """async () => (await (await (await caches.open("llama-bridge")).match("wheels.json")).text())
            .includes("-0000000000000002.bin")"""
        person.until(lambda: person.page.evaluate(kept))
        Server.down = True
        person.page.reload()
        starts(2)
