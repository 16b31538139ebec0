"""AsyncLlamaBridge in a page: the worker hears messages while a task generates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.browser import browsers, fetch
from tools.browser.server import serve
from tools.browser.site import lay_out

pytestmark = pytest.mark.slow

FILES = {
    "index.html": """<!doctype html>
<script type="module" src="main.mjs"></script>""",
    "main.mjs": """globalThis.messages = [];
const worker = new Worker("worker.mjs", { type: "module" });
setInterval(() => worker.postMessage("still there?"), 10);
worker.onmessage = ({ data }) => messages.push(data);
worker.onerror = ({ message }) => messages.push({ kind: "failed", data: message });""",
    "worker.mjs": """import { loadPyodide } from "./pyodide/pyodide.mjs";
const url = (path) => new URL(path, import.meta.url).href;
globalThis.heard = 0;
globalThis.longest = 0;
let last = performance.now();
self.onmessage = () => {
  const now = performance.now();
  heard += 1;
  longest = Math.max(longest, now - last);
  last = now;
};
globalThis.listen = () => { heard = 0; longest = 0; last = performance.now(); };
try {
  const wheels = await (await fetch(url("wheels.json"))).json();
  const python = await loadPyodide({ packages: wheels.micropip.map(url) });
  await python.pyimport("micropip").install.callKwargs(wheels.llama_bridge.map(url), { deps: false });
  const found = await python.runPythonAsync(await (await fetch(url("tasks.py"))).text());
  postMessage({ kind: "done", data: found });
} catch (error) {
  postMessage({ kind: "failed", data: String(error) });
}""",
}

TASKS = """
import asyncio, json, time
from js import globalThis as page
from llama_bridge import AsyncLlamaBridge, LlamaBridge
from llama_bridge.testing import FakeAnswer, FakeLlama

found = {}
questions = ["Hello! My name is Zorvane.", "What is a token?"]
with LlamaBridge("demo") as llama:
    expected = [list(llama.generate_stream(question)) for question in questions]
    begun = time.perf_counter()
    for _ in range(8):
        llama.generate(questions[1], temperature=0)
    found["alone"] = time.perf_counter() - begun

async with AsyncLlamaBridge("demo") as llama:
    found["same"] = expected == [
        [text async for text in llama.generate_stream(question)] for question in questions
    ]
    page.listen()
    begun = time.perf_counter()
    for _ in range(8):
        await llama.generate(questions[1], temperature=0)
    found["in_a_task"] = time.perf_counter() - begun
    found["heard"], found["longest"] = page.heard, page.longest

    page.listen()
    task = asyncio.ensure_future(llama.generate("one two three four " * 60, chat=False))
    await asyncio.sleep(0.02)
    begun = time.perf_counter()
    task.cancel()
    try:
        await task
        found["cancelled"] = None
    except asyncio.CancelledError:
        found["cancelled"] = time.perf_counter() - begun
    found["longest_prefill"] = page.longest
    found["after"] = (await llama.generate(questions[0])).text == "".join(expected[0])

    both = await asyncio.gather(*(llama.generate(question, temperature=0) for question in questions))
    found["both"] = [answer.finish_reason for answer in both]

json.dumps(found)
"""


def test_a_worker_hears_messages_while_a_task_generates(
    tmp_path: Path, missing: Callable[[str], None], record_property: Callable[[str, object], None]
) -> None:
    if browsers.find("chromium") is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium")
    try:
        lay_out(tmp_path)
    except fetch.FetchError as error:
        missing(str(error))
    for name, text in {**FILES, "tasks.py": TASKS}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with serve(tmp_path) as address, browsers.messages("chromium", address, seconds=120) as page:
        message = next(one for one in page if one.kind in ("done", "failed"))
    assert message.kind == "done", message.data
    found = json.loads(message.data)
    record_property("tasks", found)
    print(found)
    assert found["same"]
    assert found["after"]
    assert found["both"] == ["stop", "stop"]
    assert found["heard"] > found["in_a_task"] / 0.1  # ten a second, at the least
    assert found["longest"] < 200
    assert found["longest_prefill"] < 300  # a batch of the prompt
    assert found["cancelled"] is not None
    assert found["cancelled"] < 0.5
