"""The wasm backend: llama.cpp as WebAssembly, in a sandbox. Installing it needs no compiler.

.. code-block:: text

    backend.py    probe and load; picks the host. Start here
    engine/       the engine contract on top of a guest, for any host
    hosts/        what runs a guest: wasmtime on a desktop, the browser's own engine in a page
    store/        models in a page: kept in the browser, dropped on the page, on a server
    abi.py        llama.wasm's structs and status codes, and the Guest protocol
    artifact.py   where llama.wasm is, and what it was built from
    page.py       the JavaScript side; the only module that imports js and pyodide

``backend.py`` uses the three packages; ``engine``, ``hosts`` and ``store`` use the last three files and not each other.
The repository's ``wasm/README.md`` says how llama.wasm is built.
"""

from .backend import WasmBackend

__all__ = ["BACKEND", "WasmBackend"]

BACKEND = WasmBackend()
"""The object behind the entry point ``wasm``."""
