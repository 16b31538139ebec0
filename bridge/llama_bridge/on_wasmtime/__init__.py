"""What the hosts of llama.wasm and chat.wasm on wasmtime have in common:

.. code-block:: text

    prepared_call.py    cheap calls into an instance
    compiled_cache.py   keeps machine code between runs

Imports wasmtime, and of llama_bridge only where the user's caches are. A page has none of it.
"""
