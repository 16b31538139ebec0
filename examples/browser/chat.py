"""The worker: does one job after another for the page, and reports everything to it as events."""

import asyncio
import time
from collections.abc import Awaitable, Callable
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
    ModelSource,
    Progress,
    ReasoningDelta,
    TextStream,
    ToolCallDelta,
)
from llama_bridge.chat.module.host import prepare
from llama_bridge_wasm.hosts.browser import stop, threads
from llama_bridge_wasm.store import (
    BlobSource,
    ModelStore,
    StoreFull,
    StoreProgress,
    StoreUnavailable,
)

BREATH = 0.05
"""Seconds between two checks for messages from the page, during an answer."""


def tell(event: str, **values: object) -> None:
    message = {"event": event, **values}
    js.postMessage(to_js(message, dict_converter=js.Object.fromEntries))


class Chat:
    """A bridge, the kept models, and at most one job at a time."""

    def __init__(self, flag: Any) -> None:
        stop.watch(flag)  # shared with the page, if possible
        self.llama = LlamaBridge(backend="wasm", on_progress=self.heard)
        self.store = ModelStore()
        self.job: asyncio.Task[None] | None = None
        self.stopping = self.waiting = False
        self.using = ""

    def hear(self, message: Any) -> None:
        """Handle a message from the page: stop, or the name of a job and its values."""
        if message.job == "stop":
            self.stop()
        elif self.job is None:
            self.stopping = False
            work = getattr(self, f"do_{message.job}")
            self.job = asyncio.create_task(self.run(partial(work, message)))

    def stop(self) -> None:
        self.stopping = True
        self.llama.cancel()
        if self.job is not None and self.waiting:
            self.job.cancel()

    async def run(self, work: Callable[[], Awaitable[str]]) -> None:
        status = await self.guarded(work)
        self.waiting = False
        await self.guarded(self.show_kept)
        self.job = None
        tell("idle", status=status)

    async def guarded(self, work: Callable[[], Awaitable[str]]) -> str:
        try:
            return await work()
        except asyncio.CancelledError:
            return "Stopped"
        except ContextOverflow as error:
            words = f"{error.needed:,} tokens do not fit the context of {error.n_ctx:,}"
            tell("failed", kind="Too long", words=f"{words}: shorten the message, or press New")
            return "That did not work"
        except Exception as error:  # the page shows every error
            tell("failed", kind=type(error).__name__, words=str(error))
            return "That did not work"

    # jobs

    async def do_begin(self, _: Any) -> str:
        # Saves half a second of the first answer while the user chooses.
        asyncio.get_running_loop().call_later(0.05, prepare)
        return "Choose a model"

    async def do_demo(self, _: Any) -> str:
        return await self.load("demo")

    async def do_file(self, message: Any) -> str:
        file, name = message.file, str(message.file.name)
        status = await self.load(BlobSource(file, name))  # before keeping it: it may not be a model
        self.waiting = True
        try:
            kept = await self.store.add(file, name, partial(self.progress, "Keeping"))
        except (StoreFull, StoreUnavailable) as error:
            tell("failed", kind=type(error).__name__, words=str(error))
            return f"{status}, but not kept"
        self.using = kept.sha256
        return status

    async def do_url(self, message: Any) -> str:
        self.waiting = True
        kept = await self.store.download(message.url, partial(self.progress, "Downloading"))
        self.waiting = False
        return await self.use(kept.sha256)

    async def do_use(self, message: Any) -> str:
        return await self.use(message.sha256)

    async def do_delete(self, message: Any) -> str:
        await self.store.delete(message.sha256)
        return "Deleted"

    async def do_discard(self, message: Any) -> str:
        await self.store.discard(message.url)
        return "Deleted"

    async def do_new(self, _: Any) -> str:
        self.llama.session_reset()
        return "A new conversation"

    async def do_ask(self, message: Any) -> str:
        stream = self.answer(message.messages.to_py())
        if self.stopping:
            self.llama.cancel()
        breath = time.monotonic() + BREATH
        for delta in stream:
            if isinstance(delta, ReasoningDelta):
                tell("busy", status="Thinking…")
            elif not isinstance(delta, ToolCallDelta):
                tell("text", text=delta if isinstance(delta, str) else delta.text)
            if time.monotonic() > breath and not stop.is_shared():
                await asyncio.sleep(0.004)  # the shortest sleep in which Pyodide handles messages
                breath = time.monotonic() + BREATH
        end, usage = stream.result, stream.result.usage
        speed = usage.tokens_per_second
        tell("answered", text=end.text, finish=end.finish_reason, **asdict(usage), speed=speed)
        return "Stopped" if end.finish_reason == "cancelled" else "Ready"

    # what jobs do

    def answer(self, messages: list[dict[str, str]]) -> ChatStream | TextStream:
        """Answer the last message. What the others have in common with the KV cache is not evaluated again."""
        if Capability.CHAT_TEMPLATE in self.llama.capabilities:
            return self.llama.chat_stream(messages)
        return self.llama.generate_stream("".join(message["content"] for message in messages))

    async def use(self, sha256: str) -> str:
        async with self.store.open(sha256) as source:
            status = await self.load(source)
        self.using = sha256
        return status

    async def load(self, model: str | ModelSource) -> str:
        tell("busy", status="Loading the model…")
        start = time.monotonic()
        if model != "demo":  # the demo is too small for more than one thread
            await threads.prepare()
        self.llama.load_model(model)
        self.using = "demo" if model == "demo" else ""
        tell(
            "loaded",
            name=self.llama.model.name,
            backend=self.llama.backend,
            threads=self.llama.info.n_threads,
        )
        return f"Ready, loaded in {time.monotonic() - start:.1f} s"

    def heard(self, step: Progress) -> None:
        if step.stage == "prefill":
            if 0 < step.done < step.total:  # more than one chunk
                tell("prefill", done=step.done, total=step.total)
        else:
            doing = "Compiling llama.wasm" if step.stage == "compile" else "Loading"
            tell("progress", doing=doing, done=step.done, total=step.total, note="")

    def progress(self, doing: str, at: StoreProgress) -> None:
        tell("progress", doing=doing, done=at.done, total=at.total or 0, note=at.note)

    async def show_kept(self) -> str:
        kept: dict[str, object] = {"models": [], "unfinished": [], "used": 0, "free": 0, "why": ""}
        try:
            kept["models"] = [asdict(model) for model in await self.store.models()]
            kept["unfinished"] = [asdict(part) for part in await self.store.unfinished()]
            kept["used"], kept["free"] = await self.store.space()
        except StoreUnavailable as error:
            kept["why"] = str(error)
        tell("kept", using=self.using, **kept)
        return ""
