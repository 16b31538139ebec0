"""llama.wasm on wasmtime. In this order:

.. code-block:: text

    guest.py            the guest: memory, calls, closing
    instance.py         an instance in a store of its own, and calls into it that cost little
    threads.py          the guest's threads: further instances over the same memory
    module.py           llama.wasm as machine code
    compiled_cache.py   which is kept between runs

The only place that imports ``wasmtime``. Beside that it may import ``llama_bridge``, ``abi.py`` and the modules of
``hosts``; nothing of the browser's.
"""
