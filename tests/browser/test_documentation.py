"""The code blocks about browser pages run in a page, in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.models.source import open_model
from llama_bridge.serve import ServerSettings, app
from tests.docs.pages import PAGES, blocks
from tests.serve.serving import serving
from tools.browser import browsers, fetch
from tools.browser.server import serve
from tools.browser.site import lay_out

pytestmark = pytest.mark.slow

FILES = {
    "index.html": """<!doctype html>
<script type="module" src="main.mjs"></script>""",
    "main.mjs": """globalThis.messages = [];
const worker = new Worker("worker.mjs", { type: "module" });
worker.onmessage = ({ data }) => messages.push(data);
worker.onerror = ({ message }) => messages.push({ kind: "failed", data: message });""",
    "worker.mjs": """import { loadPyodide } from "./pyodide/pyodide.mjs";
const url = (path) => new URL(path, import.meta.url).href;
try {
  const wheels = await (await fetch(url("wheels.json"))).json();
  const stdout = (data) => postMessage({ kind: "said", data });
  const python = await loadPyodide({ packages: wheels.micropip.map(url), stdout });
  await python.pyimport("micropip").install.callKwargs(wheels.llama_bridge.map(url), { deps: false });
  const picked = await (await fetch(url("models/name.gguf"))).blob();
  python.globals.set("file", new File([picked], "name.gguf"));
  for (const { place, text } of await (await fetch(url("blocks.json"))).json()) {
    postMessage({ kind: "runs", data: place });
    await python.runPythonAsync(text);
  }
  postMessage({ kind: "done", data: "" });
} catch (error) {
  postMessage({ kind: "failed", data: String(error) });
}""",
}


def test_its_blocks_run_in_a_page_from_top_to_bottom(
    tmp_path: Path, missing: Callable[[str], None]
) -> None:
    found = [block for page in PAGES for block in blocks(page) if "page" in block.flags]
    assert len(found) >= 3
    if browsers.find("chromium") is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium")
    try:
        lay_out(tmp_path)
    except fetch.FetchError as error:
        missing(str(error))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "name.gguf").write_bytes(open_model("demo").path.read_bytes())
    happened: list[str] = []
    with serve(tmp_path, csp="") as address, LlamaBridge("demo") as llama:
        settings = ServerSettings(cors_origins=(address.rstrip("/"),))
        with serving(app(llama, settings=settings)) as server:
            told = [
                {
                    "place": str(block),
                    "text": block.text.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"),
                }
                for block in found
            ]
            (tmp_path / "blocks.json").write_text(json.dumps(told), encoding="utf-8")
            with browsers.messages("chromium", address, seconds=120) as page:
                for message in page:
                    happened.append(f"{message.kind}: {message.data}")
                    if message.kind in ("done", "failed"):
                        break
    assert happened[-1] == "done: ", "\n".join(happened)
