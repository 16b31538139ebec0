"""The wasm backend: llama.cpp as WebAssembly, in a sandbox, with no compiler needed to install it.

.. code-block:: text

    backend.py          probe and load; picks the host
    engine.py           the engine contract over a Guest; knows no host
    loading.py          a model into a guest, or the reason why not
    marshal.py          arguments and results through guest memory
    abi.py              llama.wasm's exports, structs and status codes; the Guest protocol
    host_wasmtime.py    a Guest on wasmtime; the only module that imports it
    wasi.py             what the guest sees of the world: one read-only file
    compiled_cache.py   machine code of llama.wasm, kept between runs
    artifact.py         where llama.wasm is and what it was built from

In a page, with Pyodide:

.. code-block:: text

    page.py             the only module that imports js and pyodide
    host_browser.py     a Guest in the browser's engine
    stop.py             how the page stops its worker
    sources.py          models from a Blob, a server or an OPFS file, read straight into the guest
    store.py            models kept in the browser; incoming.py: on their way in; opfs.py: where they lie
"""

from .backend import WasmBackend

__all__ = ["BACKEND", "WasmBackend"]

BACKEND = WasmBackend()
"""The object behind the entry point ``wasm``."""
