"""Split models in a page: kept, from a server, and dropped on it. In Chromium."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

if sys.platform == "emscripten":
    pytest.skip("it drives a browser from outside", allow_module_level=True)
if not os.environ.get("CI"):  # there it is an error
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")

from tests.gguf_editing import Gguf
from tools.split_model import split_model

from .programmer import Programmer
from .visiting import DEMO

pytestmark = pytest.mark.slow

BEGIN = """
import js
from uuid import uuid4
from llama_bridge import BridgeError, LlamaBridge, PartsSource
from llama_bridge_wasm.store.model_store import *
from llama_bridge_wasm.store import BlobSource, UrlSource
from llama_bridge_wasm.page import new, to_js
url = {url!r}
said = []
place = uuid4().hex
store = ModelStore(place)
await store.models()
await store.unfinished()
names = [f"chat-0000{{i}}-of-00003.gguf" for i in (1, 2, 3)]

async def fails(work):
    try:
        await work
        said.append("fine")
    except BridgeError as error:
        said.append(f"{{type(error).__name__}}: {{error}}")

def answer(model):
    with LlamaBridge(model, n_ctx=256) as llama:
        said.append(llama.generate("Hello! My name is Zorvane.", temperature=0, max_tokens=16).text)

async def kept(sha256):
    async with store.open(sha256) as source:
        answer(source)

async def stored():
    found = []
    root = await js.navigator.storage.getDirectory()
    for folder in ("models", "parts"):
        at = await (await root.getDirectoryHandle(place)).getDirectoryHandle(folder)
        names = at.keys()
        while not (step := await names.next()).done:
            found.append(step.value)
    return found
"""


@pytest.fixture(scope="module")
def parts(site: Path) -> list[Path]:
    """The demo model in three files, on the page's server."""
    folder = site / "models" / "parts"
    folder.mkdir()
    return split_model(DEMO, folder / "chat", 3)


@pytest.fixture
def url(address: str, parts: list[Path]) -> str:
    """The address of their folder."""
    return f"{address}models/parts/"


def run(programmer: Programmer, url: str, code: str) -> list[str]:
    """What the code puts into ``said``."""
    told = programmer.run(BEGIN.format(url=url) + code + '\n"|".join(map(str, said))')
    assert not told.startswith("Traceback"), told
    return told.split("|")


def test_it_answers_as_in_one_file_wherever_it_is_read_from(
    programmer: Programmer, url: str, parts: list[Path]
) -> None:
    said = run(
        programmer,
        url,
        """
answer("demo")
answer(UrlSource(url + names[2]))
answer(UrlSource(url + names[0] + "?query", "Any name"))
steps = []
model = await store.download(url + names[1], steps.append)
await kept(model.sha256)
done = [step.done for step in steps]
said += [model.name, model.size, len(set(model.parts)), [model] == await store.models()]
said += [done == sorted(done), {step.total for step in steps} == {model.size}, done[-1] == model.size]
again = await store.download(url + names[0])
said += [again.parts == model.parts, len(await store.models()), await store.unfinished()]
await store.delete(model.sha256)
said.append(await stored())
blobs = [await (await js.fetch(url + name)).blob() for name in names]
files = [new(js.File, to_js([blob]), name) for blob, name in zip(blobs, names)]
answer(PartsSource([BlobSource(file) for file in reversed(files)]))
steps.clear()
model = await store.add_parts([files[1], files[2], files[0]], steps.append)
await kept(model.sha256)
said += [again.parts == model.parts, steps[-1].done == steps[-1].total == model.size]
said.append(len(await stored()))
""",
    )
    size = sum(path.stat().st_size for path in parts)
    text = said[0]
    assert text
    assert said[1:4] == [text] * 3
    assert said[4:8] == ["chat.gguf", str(size), "3", "True"]
    assert said[8:11] == ["True"] * 3
    assert said[11:15] == ["True", "1", "[]", "[]"]
    assert said[15:19] == [text, text, "True", "True"]
    assert said[19] == "6"


def test_a_missing_or_foreign_part_is_named_and_a_break_is_continued(
    programmer: Programmer, url: str, parts: list[Path], site: Path
) -> None:
    lacking, foreign = (site / "models" / name for name in ("lacking", "foreign"))
    for folder in (lacking, foreign):
        folder.mkdir()
        for path in parts:
            shutil.copy(path, folder)
    (lacking / parts[2].name).unlink()
    other = Gguf(parts[1])
    other.set("split.tensors.count", 3)
    other.write(foreign / parts[1].name)
    said = run(
        programmer,
        url,
        """
above = url.removesuffix("parts/")
await fails(store.download(above + "lacking/" + names[0]))
said.append(await stored())
await fails(store.download(above + "foreign/" + names[0]))
said.append(await stored())
await fails(store.download(url + names[1] + "?half"))
await store.discard(url + names[2] + "?half")
said.append(await stored())
steps = []
async def until(at):
    def stop(step):
        steps.append(step.done)
        if step.done >= at * step.total:
            raise OSError("stopped")
    try:
        await store.download(url + names[1], stop)
    except OSError:
        said.append([(part.name, part.size < part.total) for part in await store.unfinished()])
for at in (0.1, 0.4, 0.5):
    await until(at)
    said.append(steps[0] > 0)
    steps.clear()
await store.download(url + names[2])
said.append(await store.unfinished())
[model] = await store.models()
await kept(model.sha256)
await store.delete(model.sha256)
await until(0.5)
[part] = await store.unfinished()
await store.discard(part.url)
said.append(await stored())
async def dropped(kinds):
    files = [new(js.File, to_js([await (await js.fetch(url + name)).blob()]), name) for name in kinds]
    await store.add_parts(files)
await fails(dropped(names[:2]))
await fails(dropped([*names, names[0]]))
said.append(await stored())
await fails(store.add(await (await js.fetch(url + names[1])).blob(), names[1]))
""",
    )
    assert said[0] == (
        "ModelNotFound: " + url.removesuffix("parts/") + f"lacking/{parts[2].name}: "
        "the server has no such file (status 404)"
    )
    assert said[1] == "[]"
    assert f"{parts[1].name} is not part 2 of 3 of this model: its model has 3 tensors" in said[2]
    assert said[3] == "[]"
    assert said[4].startswith(f"DownloadError: {parts[0].name}: the connection broke")
    assert said[5] == "[]"
    assert said[6:12:2] == ["[('chat.gguf', True)]"] * 3
    assert said[7:12:2] == ["False", "True", "True"]  # whether it goes on where it was
    assert said[12] == "[]"
    assert said[13]
    assert said[14] == "[('chat.gguf', True)]"
    assert said[15] == "[]"
    assert "part 3 of 3 is missing" in said[16]
    assert said[17].endswith(f"{parts[0].name} is given twice")
    assert said[18] == "[]"
    assert said[19].startswith("InvalidModel: ")
    assert "give all parts" in said[19]


def test_a_part_that_two_models_share_stays_while_one_needs_it(
    programmer: Programmer, url: str, parts: list[Path], site: Path
) -> None:
    newer = site / "models" / "newer"
    newer.mkdir()
    for path in parts[1:]:
        shutil.copy(path, newer)
    first = Gguf(parts[0])
    first.set("general.name", b"newer", 8)
    first.write(newer / parts[0].name)
    said = run(
        programmer,
        url,
        """
old = await store.download(url + names[0])
new_one = await store.download(url.removesuffix("parts/") + "newer/" + names[0])
said += [old.parts[1:] == new_one.parts[1:], len(await store.models()), len(await stored())]
await store.delete(old.sha256)
await kept(new_one.sha256)
await fails(kept(old.sha256))
await store.delete(new_one.sha256)
said.append(await stored())
""",
    )
    assert said[:3] == ["True", "2", "8"]
    assert said[3]
    assert said[4].startswith("ModelNotFound")
    assert said[5] == "[]"


def test_a_tab_that_looks_for_leftovers_leaves_what_another_one_copies(
    programmer: Programmer, url: str, parts: list[Path]
) -> None:
    said = run(
        programmer,
        url,
        """
import asyncio
blobs = [await (await js.fetch(url + name)).blob() for name in names]
files = [new(js.File, to_js([blob]), name) for blob, name in zip(blobs, names)]
other, done = ModelStore(place), False

async def looks():
    while not done:
        await other.unfinished()
        await asyncio.sleep(0)

looking = asyncio.ensure_future(looks())
await fails(store.add_parts(files))
whole = await (await js.fetch(url + "../demo-copy.gguf")).blob()
await fails(store.add(whole, "whole.gguf"))
done = True
await looking
said.append(sorted(model.name for model in await store.models()))
folder = await (await (await js.navigator.storage.getDirectory()).getDirectoryHandle(place)).getDirectoryHandle("parts")
await folder.getFileHandle("left.part", to_js({"create": True}, dict_converter=js.Object.fromEntries))
said.append(len(await stored()))
await store.unfinished()
said.append(len(await stored()))
""",
    )
    assert said == ["fine", "fine", "['chat.gguf', 'whole.gguf']", "9", "8"]
