"""The wasm backend: llama.cpp as WebAssembly, in a sandbox, with no compiler needed to install it.

.. code-block:: text

    backend.py    probe and load; picks the host. Start here
    engine/       the engine contract over a guest; knows no host
    hosts/        where a guest runs: wasmtime on a desktop, the browser's own engine in a page
    store/        models that a page has: kept in the browser, dropped on it, on a server
    abi.py        llama.wasm's exports, structs and status codes, and what a guest is
    artifact.py   where llama.wasm is, and what it was built from
    page.py       JavaScript's side; the only module that imports js and pyodide

``backend.py`` uses all that is above the three files at the end; ``engine``, ``hosts`` and ``store`` use those three
and not each other. How llama.wasm is made stands in ``wasm/README.md`` of the repository.
"""

from .backend import WasmBackend

__all__ = ["BACKEND", "WasmBackend"]

BACKEND = WasmBackend()
"""The object behind the entry point ``wasm``."""
