"""Runs in the worker: loads a model and times runs. Functions are called by name and return JSON."""

import json
import time

import js
import pyodide_js

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge_wasm.hosts.browser import threads as page_threads
from llama_bridge_wasm.store import BlobSource

bridge = None


async def load(url, n_ctx, n_threads):
    """Threads, seconds to load a model from the page's server, and bytes of both WebAssembly memories, which never shrink."""
    global bridge
    await page_threads.prepare(n_threads)
    blob = await (await js.fetch(url)).blob()
    clock = time.perf_counter()
    bridge = LlamaBridge(BlobSource(blob, url), n_ctx=n_ctx, n_threads=n_threads)
    seconds = time.perf_counter() - clock
    memory = bridge._shared.runtime._engine.guest.memory_size + pyodide_js._module.HEAP8.byteLength
    return json.dumps({"threads": bridge.info.n_threads, "seconds": seconds, "memory": memory})


async def about():
    """Which llama.wasm it is, and the form of its kernels."""
    return json.dumps({"version": bridge.info.version})


async def run(prompt, n):
    """One greedy generation of raw text."""
    params = SamplingParams(temperature=0, max_tokens=n)
    bridge.session_reset()  # or the prompt would still be in the KV cache
    usage = bridge.generate(prompt, sampling=params, chat=False).usage
    return json.dumps(
        {
            "n_prompt": usage.evaluated_tokens,
            "prompt_seconds": usage.prompt_seconds,
            "n": usage.completion_tokens,
            "seconds": usage.completion_seconds,
        }
    )
