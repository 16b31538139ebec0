"""The worker: does one job after another for the page, and tells it of everything in messages."""

import asyncio
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import js
from pyodide.ffi import to_js

from llama_bridge import (
    Capability,
    ChatStream,
    ContextOverflow,
    LlamaBridge,
    ModelNotFound,
    ModelSource,
    PartsSource,
    Progress,
    ReasoningDelta,
    TextDelta,
    TextStream,
    UnsupportedCapability,
)
from llama_bridge.capabilities import capability_names
from llama_bridge.chat.module.host import prepare
from llama_bridge.models.source import open_model
from llama_bridge_wasm.hosts.browser import stop, threads
from llama_bridge_wasm.store import (
    BlobSource,
    ModelStore,
    StoreError,
    StoreProgress,
)

BREATH = 0.05
"""Seconds between two checks for messages from the page, during an answer."""


class Stopped(Exception):
    """The page has stopped the job."""


def tell(event: str, **values: object) -> None:
    message = {"event": event, **values}
    js.postMessage(to_js(message, dict_converter=js.Object.fromEntries))


def source_of(files: list[Any]) -> ModelSource:
    sources = [BlobSource(file, str(file.name)) for file in files]
    return sources[0] if len(sources) == 1 else PartsSource(sources)


class Chat:
    """A bridge and the kept models. The page asks for the next job when the one before has ended."""

    def __init__(self, flag: Any) -> None:
        self.flag = flag  # shared with the page, if possible
        stop.watch(flag)
        self.llama = LlamaBridge(backend="wasm", on_progress=self.heard)
        self.store = ModelStore()
        self.name = ""  # of what is being loaded
        self.key = (
            ""  # of the loaded model: "demo", its sha256, or the name of a file that is not kept
        )
        self.task: asyncio.Task[None] | None = None
        self.stopping = self.waiting = False
        # Saves half a second of the first answer while somebody types.
        asyncio.get_running_loop().call_later(0.05, prepare)

    def hear(self, message: Any) -> None:
        """A message of the page: a job and its values, or that the job is to stop."""
        if message.job != "stop":
            self.stopping = False
            self.task = asyncio.create_task(self.run(message))
            return
        self.stopping = True
        self.llama.cancel()
        if self.task is not None and self.waiting:
            self.task.cancel()

    async def run(self, job: Any) -> None:
        before = self.key
        end = await self.outcome(job)
        self.waiting = False
        if job.job != "ask" or self.key != before or end["event"] == "failed":
            try:
                await self.tell_state()
            except Exception as error:  # the page waits for an end, whatever it is
                end = {"event": "failed", "kind": "refused", "words": str(error)}
        tell(**end)

    async def outcome(self, job: Any) -> dict[str, Any]:
        try:
            return {"event": "done", "value": await getattr(self, f"do_{job.job}")(job)}
        except (asyncio.CancelledError, Stopped):
            return {"event": "stopped"}
        except Exception as error:  # the page shows every error
            is_gone = isinstance(error, ModelNotFound) and job.job in ("ask", "use")
            kind = "full" if isinstance(error, ContextOverflow) else "refused"
            return {"event": "failed", "kind": "gone" if is_gone else kind, "words": str(error)}

    async def tell_state(self) -> None:
        state: dict[str, object] = {"models": [], "unfinished": [], "free": None}
        state["demo"] = open_model("demo").path.stat().st_size
        try:
            state["models"] = [asdict(model) for model in await self.store.models()]
            state["unfinished"] = [asdict(part) for part in await self.store.unfinished()]
            _, state["free"] = await self.store.space()
        except StoreError as error:
            state["note"] = str(error)
        tell("state", loaded=self.about() if self.key else None, **state)

    def about(self) -> dict[str, object]:
        llama = self.llama
        return {
            "key": self.key,
            "name": llama.model.name,
            "backend": llama.backend,
            "threads": llama.info.n_threads,
            "context": llama.info.n_ctx,
            "capabilities": capability_names(llama.capabilities),
            "flags": [self.flag_of(name) for name in capability_names(~Capability(0))],
        }

    def flag_of(self, name: str) -> dict[str, object]:
        try:
            self.llama.requires(name)
        except UnsupportedCapability as error:
            return {"name": name, "has": False, "reason": str(error)}
        return {"name": name, "has": True}

    # jobs

    async def do_look(self, _: Any) -> None:
        """Only tell what there is."""

    async def do_use(self, job: Any) -> None:
        await self.have(job.model)

    async def do_add(self, job: Any) -> dict[str, object]:
        """Load a model's files and keep a copy; they are loaded first because they may not be a model."""
        files = list(job.files)
        name = str(files[0].name)
        await self.load(source_of(files), name)
        self.waiting = True
        tell_copy = partial(self.progress, "copy", name)
        try:
            if len(files) == 1:
                kept = await self.store.add(files[0], name, tell_copy)
            else:
                kept = await self.store.add_parts(files, tell_copy)
        except (StoreError, ModelNotFound) as error:  # it answers all the same
            return {"note": str(error)}
        self.key = kept.sha256
        return {"key": kept.sha256}

    async def do_fetch(self, job: Any) -> dict[str, object]:
        self.waiting = True
        kept = await self.store.download(
            job.url, partial(self.progress, "download", job.url.rpartition("/")[2])
        )
        return {"key": kept.sha256}

    async def do_delete(self, job: Any) -> None:
        await self.store.delete(job.sha256)

    async def do_discard(self, job: Any) -> None:
        await self.store.discard(job.url)

    async def do_ask(self, job: Any) -> dict[str, object]:
        await self.have(job.model)
        tell("progress", doing="read")
        stream = self.answer(job.messages.to_py(), job.sampling.to_py())
        if self.stopping:
            self.llama.cancel()
        breath = time.monotonic() + BREATH
        for delta in stream:
            if isinstance(delta, ReasoningDelta):
                tell("reasoning", text=delta.text)
            elif isinstance(delta, str):
                tell("text", text=delta)
            elif isinstance(delta, TextDelta):
                tell("text", text=delta.text)
            if time.monotonic() > breath and not stop.is_shared():
                await asyncio.sleep(0.004)  # the shortest sleep in which Pyodide handles messages
                breath = time.monotonic() + BREATH
        end, usage = stream.result, stream.result.usage
        return {
            "finish": end.finish_reason,
            "room": self.llama.info.n_ctx,
            "speed": usage.tokens_per_second,
            **asdict(usage),
        }

    # what jobs do

    def answer(
        self, messages: list[dict[str, str]], settings: dict[str, Any]
    ) -> ChatStream | TextStream:
        """Answer the last message. What the others have in common with the KV cache is not evaluated again."""
        if Capability.CHAT_TEMPLATE in self.llama.capabilities:
            return self.llama.chat_stream(messages, **settings)
        said = "".join(message["content"] for message in messages)
        return self.llama.generate_stream(said, **settings)

    async def have(self, model: Any) -> None:
        """Load a model of the page, unless it is loaded: the demo, a kept one, or a file."""
        if model.key == self.key:
            return
        if model.key == "demo":
            await self.load("demo", "demo")
        elif files := getattr(model, "files", None):
            await self.load(source_of(list(files)), model.key)
        else:
            try:
                async with self.store.open(model.key) as source:
                    await self.load(source, model.key)
            except ModelNotFound as error:  # another tab has deleted it, and its name too
                raise ModelNotFound(model.name, error.reason) from error

    async def load(self, model: str | ModelSource, key: str) -> None:
        self.name = model if isinstance(model, str) else model.name
        tell("progress", doing="load", name=self.name)
        if model != "demo":  # the demo is too small for more than one thread
            await threads.prepare()
        self.llama.load_model(model)
        self.key = key

    def heard(self, step: Progress) -> None:
        if step.stage != "prefill" and stop.is_shared() and self.flag[0]:
            raise Stopped
        if step.stage == "prefill" and 0 < step.done < step.total:  # more than one chunk
            tell("progress", doing="read", done=step.done, total=step.total, unit="tokens")
        elif step.stage != "prefill":
            tell("progress", doing=step.stage, name=self.name, done=step.done, total=step.total)

    def progress(self, doing: str, name: str, at: StoreProgress) -> None:
        tell("progress", doing=doing, name=name, done=at.done, total=at.total, note=at.note)
